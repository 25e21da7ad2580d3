"""Stored experience: :class:`alf.experience_replayers.replay_buffer.ReplayBuffer` and the trees it samples with."""
