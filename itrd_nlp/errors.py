"""The one exception that bad input raises."""


class UserError(ValueError):
    """Bad input: a file, a field or an argument that makes no sense.

    The message is one sentence for the person who gave the input. It names the file or argument, the value and what
    is allowed. The scripts print it on stderr and exit with code 2, without a traceback.
    """
