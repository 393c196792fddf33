"""Kinds of dense layers: what is asked of one (`base`), those there are (`registry`), each one."""
