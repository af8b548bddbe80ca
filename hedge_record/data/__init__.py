"""Shards, the tokenizer's byte table, the embedded corpus, the challenge's own download."""
