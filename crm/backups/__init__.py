"""Backups: the container (archive), the folder of its files (shelf), which of them go (retention), and what is in one (making)."""
