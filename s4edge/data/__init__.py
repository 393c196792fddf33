"""Data sets and metrics. Needs numpy only."""
