"""Reduction of the systems of a model to fewer states: one method per file, one signature."""
