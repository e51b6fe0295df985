"""A Ray cluster as an executor: the one that RAY_ADDRESS names, else one that is started on this machine.

    RayCluster      this process's side: an executor (executors.py)
    _drive          the driver's side, a process of its own, which alone knows Ray

Ray's library ends the process that it is in when it finds itself in a state that it does not expect, and takes over its
SIGTERM. So its driver has a process to itself: when that ends, it is an error that says so. Nothing is cancelled
(`ray.cancel` races with a task that ends just then, and the driver aborts): what still runs when a call has failed goes
with the driver, whose end is the end of its job.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, final

from tilth.core.errors import DataError, RecipeError, TilthError
from tilth.core.executors import Call, Executor, end_with_parent, undisturbed, without_main
from tilth.core.worker import ending

_END_SECONDS = 20.0
_CONNECT_SECONDS = 20.0
_PLACE = re.compile(r"(ray://)?(?P<host>.+):(?P<port>[0-9]{1,5})")
_CONTEXT = multiprocessing.get_context("spawn")


@final
class RayCluster(Executor):
    """Every node must see the workspace under the same path, and have the same tilth installed.

    Raises:
        RecipeError: Ray is not installed, or the cluster cannot be reached or started.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        if importlib.util.find_spec("ray") is None:
            raise RecipeError(
                "--executor ray needs Ray, which is not installed",
                "install it with `pip install 'tilth[cluster]'`, or use --executor processes",
            )
        self._driver: _Driver | None = _Driver(workers)

    def run(self, function: Call, arguments: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """Calls as Ray tasks of one processor each; those of a node that is lost are made again elsewhere."""
        if self._driver is None:
            self._driver = _Driver(self.workers)
        whole = False
        try:
            self._driver.pipe.send((function, list(arguments)))
            for _ in arguments:
                index, error = self._driver.receive()
                if error is not None:
                    raise error
                yield index
            whole = True
        finally:
            if not whole:
                self.close()

    def close(self) -> None:
        """Leaves the cluster, and ends it when it was started here."""
        if self._driver is not None:
            self._driver.end()
            self._driver = None


class _Driver:
    """The process that speaks with Ray."""

    def __init__(self, workers: int) -> None:
        address = _address()
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_drive, args=(theirs, workers, address), name="tilth-ray")
        with without_main(), undisturbed():
            self.process.start()
        theirs.close()
        try:
            error: TilthError | None = self.receive()
            if error is not None:
                raise error
        except BaseException:
            self.end()
            raise

    def receive(self) -> Any:
        """Its next message; DataError when it has ended."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(_END_SECONDS)
            status = self.process.exitcode
            raise DataError(
                f"the process that speaks with Ray has ended ({ending(status) if status is not None else 'its pipe'})",
                "read what Ray says (ray/session_latest/logs in the temporary folder), then type the same command: "
                "finished tasks are kept; or use --executor processes",
            ) from None

    def end(self) -> None:
        """Ends it, and with it its job and the cluster that it has started."""
        self.process.terminate()
        self.process.join(_END_SECONDS)
        self.process.kill()  # what is left of its cluster is then ended by a process that Ray has beside it
        self.process.join()
        self.pipe.close()


def _address() -> str | None:
    """The cluster that this process is in already, or that the environment names."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().gcs_address)
    address = os.environ.get("RAY_ADDRESS")
    if address and (place := _PLACE.fullmatch(address)):
        try:
            socket.create_connection((place["host"].strip("[]"), int(place["port"])), _CONNECT_SECONDS).close()
        except OSError as error:  # Ray itself tries for minutes
            raise _no_cluster(address, error) from None
    return address


def _drive(pipe: Connection, workers: int, address: str | None) -> None:
    """The life of the driver: the error of its start or None; then for each (function, arguments) an (index, error) of
    each call, as they end.
    """
    threading.Thread(target=end_with_parent, name="tilth-parent", daemon=True).start()
    import ray

    here: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except Exception as error:
        pipe.send(_no_cluster(address, error))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # not Ray's, which writes a trace of the stack
    pipe.send(None)
    while True:
        function, arguments = pipe.recv()
        for answer in _answers(ray, function, arguments):
            pipe.send(answer)


def _answers(
    ray: Any, function: Call, arguments: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, BaseException | None]]:
    remote = ray.remote(num_cpus=1, max_retries=3)(_told)
    waiting = {remote.remote(function, values): index for index, values in enumerate(arguments)}
    while waiting:
        [finished], _ = ray.wait(list(waiting), num_returns=1)
        try:
            error = ray.get(finished)
        except ray.exceptions.RayError as trouble:
            error = DataError(
                f"Ray could not finish a task: {_first_line(trouble)}",
                "look at the cluster (`ray status`), then type the same command: finished tasks are kept",
            )
        yield waiting.pop(finished), error


def _told(function: Call, values: tuple[Any, ...]) -> BaseException | None:
    """The error of a call as a value: Ray would wrap one that is raised, and lose which it was."""
    try:
        function(*values)
    except Exception as error:
        return error
    return None


def _no_cluster(address: str | None, error: Exception) -> RecipeError:
    what = f"the Ray cluster {address!r} (RAY_ADDRESS) cannot be reached" if address else "Ray does not start here"
    return RecipeError(
        f"{what}: {_first_line(error)}",
        "see that it runs (`ray status`), or use --executor processes"
        if address
        else "use --executor processes, or name a cluster that runs in RAY_ADDRESS",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
