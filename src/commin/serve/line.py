"""The waiting line: one job computes, the others wait and know how many are before them; any can be cancelled."""

import secrets
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from commin.errors import UserError

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"

Part = dict[str, Any]
"""A piece of a result as plain JSON values."""


class CancelledError(Exception):
    """Raised inside a job that shall end."""


class FullError(UserError):
    """No more jobs are taken."""


@dataclass(eq=False)
class Job:
    """One job, and what is known of it so far.

    Attributes:
        work: what to do; it calls `publish`, `report` and `check` of this job.
        name: nobody can guess it.
        state: waiting, running, done, failed or cancelled.
        parts: results so far.
        steps: done, in all, and of what.
        error: one line if it failed.
        files: downloads by name: media type and content.
        patience: seconds without anybody asking for it after which it ends.
        seen: when somebody last asked for it.
    """

    work: "Callable[[Job], None]"
    patience: float = 20.0
    name: str = field(default_factory=lambda: secrets.token_hex(16))
    state: str = WAITING
    parts: list[Part] = field(default_factory=list)
    steps: tuple[int, int, str] = (0, 0, "")
    error: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    def publish(self, part: Part) -> None:
        """Show a piece of the result at once."""
        self.check()
        self.parts.append(part)

    def report(self, done: int, total: int, label: str) -> None:
        """Tell how far it is."""
        self.check()
        self.steps = (done, total, label)

    def check(self) -> None:
        """Raise CancelledError if the job shall end."""
        if self.stop.is_set() or self.lonely:
            raise CancelledError

    @property
    def lonely(self) -> bool:
        """Whether nobody has asked for it for long: its page is gone."""
        return time.monotonic() - self.seen > self.patience


class Line:
    """Jobs in order of arrival, computed one at a time by one thread of its own.

    At most ``limit`` wait; ``kept`` finished ones are remembered. A job that nobody asked for during ``patience``
    seconds is given up.
    """

    def __init__(self, limit: int = 60, kept: int = 40, patience: float = 20.0) -> None:
        self.limit, self.kept, self.patience = limit, kept, patience
        self._waiting: deque[Job] = deque()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="commin-line", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job], None]) -> Job:
        """Take a job. Raises FullError if too many wait."""
        with self._changed:
            self._give_up_lonely()
            if len(self._waiting) >= self.limit:
                raise FullError(f"{self.limit} people are waiting already; try again in a minute.")
            job = Job(work, self.patience)
            self._jobs[job.name] = job
            self._waiting.append(job)
            self._forget_old()
            self._changed.notify()
        return job

    def get(self, name: str) -> Job | None:
        """The job of that name, or None; asking for it keeps it alive."""
        with self._changed:
            job = self._jobs.get(name)
            if job is not None:
                job.seen = time.monotonic()
            self._give_up_lonely()
            return job

    def ahead(self, job: Job) -> int:
        """How many jobs come before this one: 0 for the one that computes."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """End a job: at once if it waits, at its next step if it computes."""
        with self._changed:
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = CANCELLED

    def close(self) -> None:
        """End all jobs and the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.stop.set()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout=5)

    def _give_up_lonely(self) -> None:
        for job in [job for job in self._waiting if job.lonely]:
            self._waiting.remove(job)
            job.state = CANCELLED

    def _forget_old(self) -> None:
        finished = [name for name, job in self._jobs.items() if job.state not in (WAITING, RUNNING)]
        for name in finished[: max(0, len(finished) - self.kept)]:
            del self._jobs[name]

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
                job.state = RUNNING
            job.state = self._run(job)

    @staticmethod
    def _run(job: Job) -> str:
        try:
            job.check()
            job.work(job)
            return DONE
        except CancelledError:
            return CANCELLED
        except UserError as error:
            job.error = str(error)
        except Exception as error:  # the server stays up; the page says what happened
            job.error = f"The computation failed: {type(error).__name__}."
            traceback.print_exc()
        return FAILED
