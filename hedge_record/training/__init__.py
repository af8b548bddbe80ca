"""Optimizers, schedule, averaging, quantisation-aware training, the loop."""
