"""Apply a function to many things with several processes or threads."""

import concurrent.futures
import itertools
import multiprocessing
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np


def parallel_apply_generator(
    func: Callable[[Any], Any],
    iterable: Iterable[Any],
    workers: int,
    max_queue_size: int,
    dummy: bool = False,
    random_seeds: bool | list[int] = True,
    context: str | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (i, func(x_i)) as they get done, in any order.

    Args:
        func: for processes that are spawned (Windows, macOS) a function that a module
            defines at its top level; scripts then need `if __name__ == '__main__'`.
        iterable: read only as far as needed.
        workers: how many processes or threads.
        max_queue_size: at most so many things are under way at a time.
        dummy: True uses threads.
        random_seeds: True seeds numpy differently in each process, a list gives the
            seeds, False leaves numpy alone.
        context: 'fork', 'spawn' or 'forkserver'; None is the system's usual one.

    What func raises is raised here.
    """
    if workers < 1 or max_queue_size < 1:
        raise ValueError(
            f'workers={workers} and max_queue_size={max_queue_size} must be 1 or more'
        )
    executor = _executor(workers, dummy, random_seeds, context)
    waiting: dict[concurrent.futures.Future, int] = {}
    things = enumerate(iterable)
    try:
        while True:
            for i, x in itertools.islice(things, max_queue_size - len(waiting)):
                waiting[executor.submit(func, x)] = i
            if not waiting:
                return
            done, _ = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                yield waiting.pop(future), future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _executor(
    workers: int, dummy: bool, random_seeds: bool | list[int], context: str | None
) -> concurrent.futures.Executor:
    if dummy:
        return concurrent.futures.ThreadPoolExecutor(workers)
    start = multiprocessing.get_context(context)
    if random_seeds is True:
        random_seeds = np.random.randint(0, 2**31, workers).tolist()
    return concurrent.futures.ProcessPoolExecutor(
        workers,
        mp_context=start,
        initializer=_seed_worker if random_seeds else None,
        initargs=(start.Value('i', 0), list(random_seeds)) if random_seeds else (),
    )


def _seed_worker(counter: Any, seeds: list[int]) -> None:
    with counter.get_lock():
        i = counter.value
        counter.value += 1
    np.random.seed(seeds[i % len(seeds)])


def parallel_apply(
    func: Callable[[Any], Any],
    iterable: Iterable[Any],
    workers: int,
    max_queue_size: int,
    callback: Callable[[Any], Any] | None = None,
    dummy: bool = False,
    random_seeds: bool | list[int] = True,
    unordered: bool = True,
    context: str | None = None,
) -> list | None:
    """Apply func to everything in iterable, several at a time.

    Args:
        callback: is called with each result here, in the calling process; nothing is
            collected then and None returned.
        unordered: results as they get done; False: in the order of iterable.

    The other arguments are those of `parallel_apply_generator`.
    """
    results = parallel_apply_generator(
        func, iterable, workers, max_queue_size, dummy, random_seeds, context
    )
    if not unordered:
        results = _in_order(results)
    if callback is None:
        return [result for _, result in results]
    for _, result in results:
        callback(result)
    return None


def _in_order(results: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    early: dict[int, Any] = {}
    wanted = 0
    for i, result in results:
        early[i] = result
        while wanted in early:
            yield wanted, early.pop(wanted)
            wanted += 1
