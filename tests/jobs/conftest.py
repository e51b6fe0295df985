"""The real entry point inside the test's process, and one small finished run that tests copy and damage."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer.main

from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.cli.main import main


@dataclass(frozen=True)
class Said:
    """What the command answered."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The last line of standard output."""
        assert self.code == 0, self.err
        value: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return value

    def expect_fault(self, code: int, *parts: str) -> str:
        """Checks that it ended with that code, a message with all `parts` and a remedy; returns the message."""
        message = self.err[self.err.rfind("tilth: ") :]
        assert self.code == code, self.err
        assert "Traceback" not in self.err and "\n  remedy: " in message, self.err
        missing = [part for part in parts if part not in message]
        assert not missing, f"{missing} not in: {message}"
        return message


Cli = Callable[..., Said]

_command = functools.cache(typer.main.get_command)
"""The commands with their options, which a process makes of the functions once; made anew they are the same."""


def call(cwd: Path, *words: object, sets: Sequence[str] = ()) -> Said:
    """`tilth WORDS… --set SET…` in a folder, without a new process."""
    options = [part for value in sets for part in ("--set", value)]
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        mock.patch.object(sys, "argv", ["tilth", *map(str, words), *options]),
        mock.patch.object(typer.main, "get_command", _command),
        mock.patch.dict(os.environ, {"CI": "1"}),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
        sys.exit(0)
    for number in (signal.SIGINT, signal.SIGTERM):  # a command that ends with a fault hears no signal any more
        signal.signal(number, handlers[number])
    code = ended.value.code
    return Said(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`cli("train", "r.yaml", sets=[…])` in the test's folder."""
    return lambda *words, **options: call(tmp_path, *words, **options)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, r.yaml, work/ and runs/small, trained for 12 steps; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    write_texts(folder / "texts")
    write_recipe(folder / "r.yaml", "texts", train={"checkpoint": {"every_steps": 4, "keep": 3}})
    call(folder, "train", "r.yaml", "--json", sets=SMALL).json()
    return folder


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished folder, in the test's own."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path
