"""A script, a record folder or a PR of a git clone, as files bound to their hashes."""
