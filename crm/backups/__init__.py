"""Backups: the container (archive), the folder of its files (shelf), which of them go (retention), what is in one (making, of
postgresql or sqlite); whether one is good (checking, in a scratch place), and its way back (fetching, restoring,
stored, and apart, loading and resuming for what happens in the target), copies elsewhere (offsite), and whether all is well (watch); a disk without room is told in one way (room)."""
