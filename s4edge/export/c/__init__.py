"""From a model to plain C: one file with everything in it, and its header."""
