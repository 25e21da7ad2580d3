"""The same training in more processes."""
