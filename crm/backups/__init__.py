"""Backups: the container (archive), the folder of its files (shelf), and which of them go (retention)."""
