"""Errors that are the user's to mend. The command line prints one line and exits with 2."""


class UserError(Exception):
    """What is wrong, where, and how to mend it: one line, shown without a traceback."""
