"""The one exception that a command shows as a single line and exit code 2."""


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong, where, and what to do about it."""

    def __init__(self, message: str) -> None:
        """Keep the message to one line: what cannot be printed in it (a file may hold anything) is shown escaped."""
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
