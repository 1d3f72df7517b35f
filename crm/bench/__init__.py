"""Benchmarks: `python -m crm.bench [scenario ...]`, one file a scenario. They run on a PostgreSQL database of their own,
which is made, grown from 1,000 to 100,000 clients, measured at each size, and dropped."""
