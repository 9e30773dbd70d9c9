"""The one exception that a command shows as a single line and exit code 2."""


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong, where, and what to do about it."""
