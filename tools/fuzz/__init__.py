"""Mutated real files against every reader of files that come from elsewhere."""
