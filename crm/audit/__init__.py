"""The record that can be trusted, read from the history tables: what changed (changes), of one client (timeline), of the
office (trail, events), as it was (past), put back (undo), and proven (sealing)."""
