"""Figures: how each is drawn, for a page as inline SVG and for a file of its own."""
