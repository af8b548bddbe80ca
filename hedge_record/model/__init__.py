"""The GPT of PR 700: names and shapes of its state dict are those of the original script."""
