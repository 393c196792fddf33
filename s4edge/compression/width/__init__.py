"""Fewer features in the residual stream, and fewer channels with them."""
