"""Standard output that is closed, full, in ASCII, or a pipe whose reader left."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.helpers import environment
from tilth.cli.output import print_json

PRINTS = """
import sys
from tilth.cli.output import print_json, ready_streams, results
from tilth.cli.screen import show
from tilth.core.errors import StorageError
ready_streams()
try:
    for part in range(3):
        with results():
            show("soil … " * 20_000)
            print_json({"run": "runs/\\udcff é"})
except StorageError as error:
    print(error, file=sys.stderr)
print("the work goes on", file=sys.stderr)
"""


def printing(shell: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """A process that prints three times more than a pipe holds, with its streams as `shell` says."""
    words = ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {shell}', sys.executable, PRINTS]
    return subprocess.run(words, env=environment(**more), capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["| head -1 > /dev/null", "| true", ">&-", "< /dev/null >&-"])
def test_nobody_who_reads_is_no_fault(shell: str) -> None:
    done = printing(shell)
    assert (done.returncode, done.stderr) == (0, "the work goes on\n")


@pytest.mark.slow
def test_without_standard_error_the_work_goes_on() -> None:
    done = printing("2>&- | tail -1")
    assert done.returncode == 0 and json.loads(done.stdout) == {"run": "runs/\udcff é"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_takes_no_more_is_told() -> None:
    done = printing("> /dev/full")
    assert "cannot write to standard output: No space left" in done.stderr and "remedy: make room" in done.stderr
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_help_on_a_disk_that_takes_no_more_is_told() -> None:
    words = ["bash", "-c", '"$0" -m tilth --help > /dev/full', sys.executable]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and done.stderr.startswith("tilth: cannot write: No space left on device\n  remedy: ")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_stream_cannot_show_is_escaped_and_the_json_stays_json(encoding: str) -> None:
    done = printing("| tail -1", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and json.loads(done.stdout) == {"run": "runs/\udcff é"}, done.stderr


def test_a_number_that_is_none_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": math.nan, "list": [math.inf, 1.5], "tuple": (-math.inf, 2)})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed == {"loss": None, "list": [None, 1.5], "tuple": [None, 2]}


ENDS_EARLY = """
import sys
from tilth.cli import main
@main.app.command()
def ends() -> None:
    raise EOFError("a pipe")
sys.argv = ["tilth", "ends"]
main.main()
"""


@pytest.mark.slow
def test_an_end_that_nobody_expected_is_a_bug_with_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS_EARLY], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Aborted" not in done.stderr
    assert "EOFError: a pipe" in done.stderr and done.stderr.endswith(
        "RuntimeError: something ended too early: a pipe\n"
    )
