"""Who does the tasks of a sweep: this process, N processes of this machine, or a Ray cluster.

All give the same outcomes, in another order. Only the caller writes; a worker that dies has its task done again.
"""

import importlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import Any, Literal

import torch

from commin.errors import UserError
from commin.evaluation.bench import Bench, Outcome, Spec, Task

Workers = int | Literal["ray"]
RETRIES = 3
AHEAD = 2  # tasks that wait for each worker


def execute(tasks: Sequence[Task], spec: Spec, workers: Workers, bench: Bench) -> Iterator[Outcome]:
    """The outcomes of all tasks, as they come.

    Args:
        tasks: what is to be done.
        spec: from which other processes make benches of their own.
        workers: 1 for this process, N, or ``ray``.
        bench: this process's bench.

    Raises:
        UserError: Ray is asked for and not installed, or workers keep dying.
    """
    if workers == "ray":
        yield from _ray(tasks, spec)
    elif workers == 1:
        for task in tasks:
            yield from bench.run(task)
    else:
        yield from _processes(tasks, spec, workers)


_bench: Bench | None = None


def _start(spec: Spec, threads: int) -> None:
    global _bench
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _bench = Bench(spec)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(task: Task) -> list[Outcome]:
    assert _bench is not None
    return list(_bench.run(task))


def _processes(tasks: Sequence[Task], spec: Spec, count: int) -> Iterator[Outcome]:
    threads = max(1, torch.get_num_threads() // count)
    todo = list(reversed(tasks))
    for _ in range(RETRIES):
        running: dict[Future[list[Outcome]], Task] = {}
        try:
            with ProcessPoolExecutor(count, get_context("spawn"), _start, (spec, threads)) as pool:
                try:
                    while todo or running:
                        while todo and len(running) < AHEAD * count:
                            task = todo.pop()
                            running[pool.submit(_work, task)] = task
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            outcomes = future.result()
                            del running[future]
                            yield from outcomes
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            return
        except BrokenProcessPool:
            todo += running.values()
    raise UserError(f"evaluate: worker processes died {RETRIES} times; use fewer --workers or a smaller --batch")


class _RayWorker:
    """An actor: one bench, kept for all its tasks."""

    def __init__(self, spec: Spec) -> None:
        torch.set_num_threads(1)
        self.bench = Bench(spec)

    def work(self, task: Task) -> list[Outcome]:
        return list(self.bench.run(task))


def _ray(tasks: Sequence[Task], spec: Spec) -> Iterator[Outcome]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError("--workers ray: Ray is not installed; pip install 'commin[cluster]'") from None
    ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)(_RayWorker)
        count = min(len(tasks), max(1, int(ray.cluster_resources().get("CPU", 1))))
        actors = [remote.remote(spec) for _ in range(count)]
        todo = list(reversed(tasks))
        running: dict[Any, Any] = {}
        for actor in actors * AHEAD:
            if todo:
                running[actor.work.remote(todo.pop())] = actor
        while running:
            done, _ = ray.wait(list(running))
            actor = running.pop(done[0])
            if todo:
                running[actor.work.remote(todo.pop())] = actor
            yield from ray.get(done[0])
    finally:
        ray.shutdown()
