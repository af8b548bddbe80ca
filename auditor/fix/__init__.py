"""Suggested patches: the legal variant of what a rule found, where the rewrite is certain."""
