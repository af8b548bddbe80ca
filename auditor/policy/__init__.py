"""Dated policies: which rule weighs what, and from where that is known."""
