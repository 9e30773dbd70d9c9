"""A bar over the calls of a receiver's network."""

import sys


class CallBar:
    """Told of each call; a line on stderr that overwrites itself, nothing where that is no terminal."""

    def __init__(self) -> None:
        self.label = ""
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Show ``done`` of ``total``; the line is cleared at the end."""
        if not self._shown:
            return
        line = f"{self.label}: {done} of {total} network calls" if done < total else ""
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
