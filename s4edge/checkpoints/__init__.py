"""Readers of upstream checkpoints: one module per layout, all giving the one form of model."""
