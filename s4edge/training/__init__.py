"""Data, evaluation and training."""
