"""Evaluation, fine-tuning and distillation."""
