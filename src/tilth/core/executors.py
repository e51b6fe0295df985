"""Who runs tasks: this process, worker processes, or a Ray cluster (ray_cluster.py). None of them decides anything
about the result.

    with open_executor("processes", workers=4) as executor:     # chosen_executor.py
        for index in executor.run(function, [arguments, …]):
            …                                   # calls end in any order; each gives its index when it has ended

`function` is a module-level function, its arguments can be pickled between processes of the same software, and what it
makes it leaves on a disk that all workers share. An error that it raises is raised here as it is.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from typing import Any, Literal, Self, final

from tilth.core.errors import DataError

ExecutorName = Literal["processes", "ray"]
Call = Callable[..., None]


class Executor(ABC):
    """Runs calls that do not depend on each other; a context, whose end lets go of all it holds."""

    tasks_may_fork = False
    """Whether a task that runs alone may start processes of its own."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    @abstractmethod
    def run(self, function: Call, arguments: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """Calls `function` once for each of `arguments`; gives the index of each call that has ended."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class Inline(Executor):
    """This process, one call after another."""

    def run(self, function: Call, arguments: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """Calls in order."""
        for index, values in enumerate(arguments):
            function(*values)
            yield index

    def close(self) -> None:
        """Nothing is held."""


@final
class Processes(Executor):
    """Worker processes of this machine, started when there is work for two, and kept until `close`."""

    tasks_may_fork = True

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Call, arguments: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """Calls in as many processes as there are workers; a single call is made here."""
        if len(arguments) <= 1:
            yield from Inline().run(function, arguments)
            return
        futures: dict[Future[None], int] = {}
        try:
            with without_main():
                futures = {self._submit(function, values): index for index, values in enumerate(arguments)}
            while futures:
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    yield futures.pop(future)
        except BrokenProcessPool:
            self.close()
            raise DataError(
                "a worker process ended without a word (killed, or out of memory)",
                "type the same command to go on: finished tasks are kept; with less memory use --workers 1",
            ) from None
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, function: Call, values: tuple[Any, ...]) -> Future[None]:
        pool = self._started()
        try:
            return pool.submit(function, *values)
        except (EOFError, ConnectionError) as error:  # the server that is to start the workers was killed
            for process in [*pool._processes.values()]:  # nobody would tell these that there is nothing to do
                process.kill()
            raise BrokenProcessPool("the server of worker processes has ended") from error

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = process_pool(self.workers)
        return self._pool

    def close(self) -> None:
        """Waits for the calls that are running, and ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_ALGEBRA_THREADS = "OPENBLAS_NUM_THREADS"
_CONTEXT = multiprocessing.get_context("forkserver")
# Not fork: the parent may hold threads (Arrow, BLAS), and a forked lock never opens again. Not spawn: every worker
# would import everything anew. The server that is forked has imported it, and holds no thread.


def warm_up(*modules: str) -> None:
    """Starts, in the background, the process that worker processes are copies of, and has it import `modules`.

    Called again, or when it runs already, it does nothing.
    """
    with without_main(), undisturbed(), _without_threads():
        _CONTEXT.set_forkserver_preload(["tilth.core.server", *modules])
        forkserver.ensure_running()


@contextlib.contextmanager
def _without_threads() -> Iterator[None]:
    """Whoever is started here gets no threads from numpy's algebra, which would wait for work that never comes, and do
    so by turning round and round at first. Workers find the parent's environment as it was (`_start_worker`).
    """
    if _ALGEBRA_THREADS in os.environ:
        yield
        return
    os.environ[_ALGEBRA_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_ALGEBRA_THREADS]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whoever is started here never hears of Ctrl-C, which a terminal sends to all: Python's server ignores it only
    after its imports, and would end within them with a traceback. Here it comes a moment later.
    """
    resource_tracker.ensure_running()  # it lifts the block when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes that leave Ctrl-C to their parent, have its environment, and do not outlive it."""
    environment = (dict(os.environ),)
    with undisturbed():
        forkserver.ensure_running()
    return ProcessPoolExecutor(workers, mp_context=_CONTEXT, initializer=_start_worker, initargs=environment)


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Hides the main module from workers: they need nothing of it, and must not run a user's script again."""
    names: dict[str, Any] = vars(sys.modules["__main__"])
    hidden = {name: names.pop(name) for name in ("__file__", "__spec__") if name in names}
    names["__spec__"] = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            names[name] = value


def _start_worker(environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()  # it is that of the server, which may have been started under another one
    os.environ.update(environment)
    gc.freeze()  # what was imported stays: looking for garbage in it costs a twentieth of the time
    threading.Thread(target=end_with_parent, name="tilth-parent", daemon=True).start()


def end_with_parent() -> None:
    """In a process of multiprocessing: waits for the end of the one that started it, and ends it at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
