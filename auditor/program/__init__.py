"""What a script says, read without running it: its index, its data flow, what reaches what."""
