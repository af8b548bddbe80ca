"""The same work for several things, in as many processes as there are processors for them."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """`[work(thing) for thing in things]`: the same results and the same error, the first in order.

    Results are sent back by `pickle`. What a process that died was at is done here.
    """
    processes = min(_processors(), len(things))
    if processes < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [work(thing) for thing in things]
    context = multiprocessing.get_context("fork")  # so that a start costs next to nothing
    results: list[R] = []
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(work, thing) for thing in things]
        try:
            results += (future.result() for future in futures)
        except BrokenProcessPool:
            pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [*results, *map(work, things[len(results) :])]


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
