"""What a model computes, said once, between the model and files of it."""

from s4edge.export.lowering.lower import lower, lower_sequences

__all__ = ["lower", "lower_sequences"]
