"""One file per rule; see the base module for their shape."""
