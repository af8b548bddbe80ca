"""One list of findings as terminal text, Markdown review, JSON and HTML."""
