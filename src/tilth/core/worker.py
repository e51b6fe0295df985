"""A process that does dangerous work: it can be killed at any moment, and its memory and processor time are bounded.

    Worker(module, what, setup)     the parent's side: starts `python -m MODULE`, asks, kills
    WorkerOwner                     what has one while there is work for it
    serve(prepare)                  the child's side: limits itself, then answers until its input ends
    timed(seconds)                  in the child: ends the process when the block takes more processor time

Parsers of pages and chat templates run so. The child takes {memory, …} first and answers {ready}; after that the two
sides agree on their messages (channel.py). Processor time is counted by a timer whose signal ends the process: nothing
in Python or in a C library can hold that up.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from tilth.core.channel import Channel, ChannelClosedError, LateError
from tilth.core.errors import StorageError

PATIENCE = 10  # seconds on the clock for one of processor time: a busy machine is no fault of the work
LONGEST_MESSAGE = 1 << 30
_START_SECONDS = 120.0
_GRACE = 5.0

Message = tuple[dict[str, Any], bytes]


class Worker:
    """One process, ready for work; the parent's side.

    Args:
        module: what `python -m` runs; it calls `serve`.
        what: what it does, for the error when it does not start, as in "reads PDF".
        setup: its first message: `memory` (bytes of address space) and whatever else it needs.

    Raises:
        StorageError: the process does not start.
    """

    def __init__(self, module: str, what: str, setup: dict[str, Any]) -> None:
        path = os.pathsep.join(place for place in sys.path if place)
        # The same hashes of texts in each process, or the order of sets would differ; dates without a time zone.
        settings = {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "TZ": "UTC", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],  # -P: nothing is imported from where one stands
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **settings},
            process_group=0,  # Ctrl-C is for the parent, which then ends it
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.channel = Channel(self.process.stdout.fileno(), self.process.stdin.fileno(), LONGEST_MESSAGE)
        deadline = time.monotonic() + _START_SECONDS
        try:
            self.channel.send(setup, deadline=deadline)
            self.channel.receive(deadline)
        except (LateError, ChannelClosedError):
            self.kill(_GRACE)
            raise StorageError(
                f"the process that {what} does not start (exit status {self.process.returncode})",
                f"see what `{sys.executable} -P -m {module} </dev/null` says, and raise `memory:` "
                f"(now {setup['memory']}) if it is low",
            ) from None

    def ended(self) -> int:
        """The exit status of a process that has closed its pipes, negative for a signal."""
        self.kill(_GRACE)  # its pipes close a moment before its status, which says more than our kill, is there
        return int(self.process.returncode)

    def kill(self, grace: float = 0.0) -> None:
        """Ends the process, whatever it does, and waits until it is gone; first `grace` seconds for its own end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class WorkerOwner:
    """Has a worker from the first work on, and ends it when it is closed; a context manager. Abstract: who derives from
    it starts the worker, and asks it.
    """

    _worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    @property
    def pid(self) -> int | None:
        """The process's id, where there is one."""
        return self._worker.process.pid if self._worker is not None else None


def out_of_time(status: int) -> bool:
    """Whether a process ended because a `timed` block took too long."""
    return status == -signal.SIGPROF


def ending(status: int) -> str:
    """An exit status in words."""
    try:
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    except ValueError:
        return f"exit status {status}"


def serve(prepare: Callable[[dict[str, Any]], Callable[[Channel, Message], bool]]) -> None:
    """The life of the child: limits, `prepare`, then an answer to each message until the input ends.

    `prepare` takes the setup and gives the function that answers one message; the process ends when that returns False,
    and never outlives its parent by more than one message.
    """
    # Whatever a library prints goes to the error output, so that it cannot get between the messages.
    channel = Channel(os.dup(0), os.dup(1), LONGEST_MESSAGE)
    os.dup2(2, 1)
    with contextlib.suppress(ChannelClosedError):
        setup, _ = channel.receive()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (setup["memory"], setup["memory"]))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        answer = prepare(setup)
        channel.send({"ready": True})
        while answer(channel, channel.receive()):
            pass


@contextlib.contextmanager
def timed(seconds: float) -> Iterator[None]:
    """Ends this process by SIGPROF when the block takes more than so many seconds of processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
