"""Faults: `python -m crm.faults [fault ...]` breaks on purpose what an office's machines break by themselves, with real
processes, a real mail server and a real SIGKILL, and counts what was lost or done twice. The suite runs a few rounds of each."""

# Moments are drawn anew for each round, and the same ones in every run of a fault.
SEED = 20_261_121
