"""Backups: the container (archive), the folder of its files (shelf), which of them go (retention), what is in one (making, of
postgresql or sqlite); whether one is good (checking, in a scratch place), and its way back (restoring, stored, and apart and
loading for what happens in the target), copies elsewhere (offsite), and whether all is well (watch)."""
