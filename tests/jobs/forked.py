"""Real processes of the command that find their imports done: copies of one that did them, for tests that begin many.

    process = Forked("train", "r.yaml", cwd=folder)         # as subprocess.Popen(command(…)), three seconds cheaper
    done = forked("train", "r.yaml", cwd=folder)            # as helpers.tilth
    done = both("train", "r.yaml", cwd=folder)              # as two that torchrun begins

Such a process has a number, memory, files and an end of its own: a signal, kill -9 or a limit meets it as any other.
What it shares with others is how Python began: the order of sets, and that no import fails. test_kill.py and
test_kill_tuning.py therefore compare what such processes made with what another one did.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.jobs.helpers import environment

IMPORTS = (
    *("tilth.cli.main", "tilth.cli.output", "tilth.cli.show", "tilth.jobs.whole_run", "tilth.jobs.train"),
    *("numpy.ma", "numpy.random", "dateutil.relativedelta", "rich._emoji_codes"),
)
"""What every run needs."""

_RUNNING: set[Forked] = set()


class Forked:
    """A process, as `subprocess.Popen` has it, whose output goes to files.

    Args:
        words: of `tilth`, or of the Python file `script`.
        imports: what it needs besides `IMPORTS`.
        own_session: signals can be sent to it and all that it starts.
        stdin: a file or the end of a pipe that it reads; nothing by default.
    """

    def __init__(
        self,
        *words: str | Path,
        cwd: Path,
        sets: Sequence[str] = (),
        script: str | None = None,
        imports: Sequence[str] = (),
        own_session: bool = False,
        stdin: int | None = None,
        **more: str,
    ) -> None:
        self.args = [*map(str, words), *(part for value in sets for part in ("--set", value))]
        asked = {
            "words": self.args,
            "cwd": str(cwd),
            "environment": environment(**more),
            "script": script,
            "imports": [*imports],
            "own_session": own_session,
        }
        self.returncode: int | None = None
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 - read at its end
        self._told, theirs = socket.socketpair()
        with theirs:
            handed = [*(file.fileno() for file in self._files), theirs.fileno(), *([] if stdin is None else [stdin])]
            socket.send_fds(_server(), [json.dumps(asked).encode() + b"\n"], handed)
        self.pid = self._number()
        _RUNNING.add(self)

    def _number(self) -> int:
        said = b""
        while not said.endswith(b"\n"):
            piece = self._told.recv(1)
            assert piece, "the process that others are copies of has ended: see what it wrote to standard error"
            said += piece
        return int(said)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._number()
            self._told.close()
            _RUNNING.discard(self)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Waits for its end; what it wrote to both outputs."""
        self.wait(timeout)
        said = []
        for file in self._files:
            file.seek(0)
            said.append(file.read())
            file.close()
        return said[0], said[1]


def forked(*words: str | Path, cwd: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """Runs such a process to its end."""
    process = Forked(*words, cwd=cwd, **how)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@dataclass(frozen=True)
class Both:
    """How two processes of one run ended: the exit codes of process 0 and 1, and all that both said."""

    codes: list[int]
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The last line of standard output, where both ended well."""
        assert self.codes == [0, 0], self.err
        value: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return value


def both(*words: str | Path, cwd: Path, **how: Any) -> Both:
    """Two processes that are begun, told where to meet, and ended when one has failed, as torchrun does it."""
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [Forked(*words, cwd=cwd, **how, **shared, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    until, told = time.monotonic() + 120, False
    while any(process.poll() is None for process in processes):
        assert time.monotonic() < until, "they wait for each other"
        if not told and any(process.returncode for process in processes):
            for process in processes:
                process.send_signal(signal.SIGTERM)
            told = True
        time.sleep(0.005)
    said = [process.communicate() for process in processes]
    return Both([process.wait() for process in processes], "".join(out for out, _ in said), "".join(e for _, e in said))


@functools.cache
def _server() -> socket.socket:
    """The way to the process that others are copies of; it ends with this one."""
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-W", "error", "-m", "tests.jobs.forked", str(theirs.fileno())]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(words, cwd=root, env=environment(), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        for left in [*_RUNNING]:  # by a test that failed
            left.kill()
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Returns in each copy, with what it is asked to do; and at the end, with None."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    while True:
        message, handed, *_ = socket.recv_fds(channel, 1 << 17, 4)
        if not message:
            channel.close()
            break
        while not message.endswith(b"\n"):
            message += channel.recv(1 << 17)
        asked: dict[str, Any] = json.loads(message)
        for name in asked["imports"]:
            importlib.import_module(name)
        assert threading.active_count() == 1, "what another thread holds, a copy would wait for"
        if os.fork() == 0:
            channel.close()
            if _copied(handed):
                return asked
            os._exit(0)
        for file in handed:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended: their time is counted here
                pass
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    return None


def _copied(handed: list[int]) -> bool:
    """Begins the process, and waits for it in one that tells its number and how it ended; True in the process."""
    out, err, told, *given = handed
    process = os.fork()
    if process == 0:
        for number, file in zip((1, 2, 0), (out, err, *given), strict=False):
            os.dup2(file, number)
        for file in handed:
            os.close(file)
        return True
    os.write(told, f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):  # nobody asks any more
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return False


def _run(asked: dict[str, Any]) -> None:
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    if asked["own_session"]:
        os.setsid()
    sys.argv = [asked["script"] or "tilth", *asked["words"]]
    if asked["script"]:
        runpy.run_path(asked["script"], run_name="__main__")
    else:
        from tilth.__main__ import main

        main()


if __name__ == "__main__" and (_asked := _serve(socket.socket(fileno=int(sys.argv[1])))):
    _run(_asked)
