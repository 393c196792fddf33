"""s4edge compared with upstream's own code; see `run.py`."""
