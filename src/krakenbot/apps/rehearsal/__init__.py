"""The rehearsal: every process of the main job on one machine, against the local exchange."""
