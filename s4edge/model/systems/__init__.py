"""Kinds of systems: what is asked of one (`base`), those there are (`registry`), and each of them.

A kind is one module with its configuration and its torch module, and a line in the registry. Its
tag stands in files. Who has systems of whatever kind asks them through `base`.
"""
