"""The one exception that the command line turns into a message and exit code 2."""


class AuditError(Exception):
    """Unreadable input or an impossible request; the text names the file and the mend."""
