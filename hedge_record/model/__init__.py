"""The 11-block GPT of the record."""
