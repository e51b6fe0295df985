"""Signals that end a command, wherever they come."""

from __future__ import annotations

import subprocess
import sys

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
