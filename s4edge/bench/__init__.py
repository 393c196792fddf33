"""Measuring: processes, rounds, warnings, results; on this machine and on another."""
