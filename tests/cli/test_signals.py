"""Signals that end a command, wherever they come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, signal, time
from tilth.cli import main

class Dying:
    def __del__(self):  # Python lets no exception out of it
        os.kill(os.getpid(), signal.{name})
        time.sleep(0)

try:
    with main._signals_end_it():
        Dying()
        time.sleep(20)
        print("lost")
except main._Interrupted as interrupted:
    print(interrupted)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_python_swallows_comes_again(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(name=name)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{name}\n", "")


IMPORTING = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run in the background

class Impatient:
    def find_spec(self, name, *_):
        if name == "{module}":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Impatient())
sys.argv = ["tilth", "init", "{path}", *{more}]
from tilth.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["tilth.cli.main", "typer", "tilth.cli.output"])
def test_ctrl_c_while_a_command_is_imported_ends_it_in_order(tmp_path: Path, module: str) -> None:
    code = IMPORTING.format(module=module, path=tmp_path / "r.yaml", more=["--json"] if module == "typer" else [])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 75, done.stderr
    assert done.stderr.startswith("tilth: SIGINT: what was finished is kept\n  remedy: type the same command again")
    assert len(done.stderr.splitlines()) == 2 and ('"exit_code": 75' in done.stdout) == (module == "typer")
    assert not any(tmp_path.iterdir())
