"""Reduction of the systems of a model to fewer states."""
