"""Layers that run once for several samples."""
