"""Abstract interpretation of a script: what each value was computed from, in which order."""
