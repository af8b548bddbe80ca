"""What runs inside the sandbox beside the audited code; nothing here is trusted by the parent."""
