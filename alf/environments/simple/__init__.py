"""Small environments that probe one difficulty each."""
