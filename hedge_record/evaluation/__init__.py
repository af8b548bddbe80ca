"""Bits per byte, sliding window, test-time training, the Hedge mixer."""
