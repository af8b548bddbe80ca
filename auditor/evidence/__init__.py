"""What logs, submission.json and sizes say, with file and line."""
