"""The error that is meant for people."""


class UserError(ValueError):
    """What was asked for cannot be done as it was given.

    The message says what was given, what is allowed and what to do. On the command line it is all that is shown, with
    exit status 2; any other `ValueError` is a fault of the program and keeps its traceback.
    """
