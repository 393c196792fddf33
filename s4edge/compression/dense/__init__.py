"""Fewer multiply-adds in the dense layers of blocks."""
