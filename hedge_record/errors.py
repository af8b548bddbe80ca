"""The one exception that the command line turns into a message instead of a traceback."""


class RecordError(Exception):
    """Bad input or an impossible request; the text names the file and the mend."""
