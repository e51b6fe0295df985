"""What .ci/quickstart.py holds the quickstart to: each promise that is broken is found, and none that is kept."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "quickstart.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_check", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("model", "seconds", "peak", "found"),
    [
        (1.7, 132.0, 1 << 30, []),
        (1.7, 180.0, (4 << 30) - 1, []),
        (1.7, 181.0, 1 << 30, ["181 s"]),
        (1.7, 132.0, 4 << 30, ["4.00 GiB"]),
        (2.1, 132.0, 1 << 30, ["xz -9e's 2.073"]),
        (float("nan"), 500.0, 5 << 30, ["500 s", "5.00 GiB", "xz -9e"]),
    ],
)
def test_every_promise_that_is_broken_is_found(
    script: ModuleType, tmp_path: Path, model: float, seconds: float, peak: int, found: list[str]
) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"validation": {"bits_per_byte": model}}))
    (tmp_path / "xz.json").write_text(json.dumps({"bits_per_byte": 2.073}))
    faults = script.faults(tmp_path, seconds, peak)
    assert len(faults) == len(found) and all(part in fault for part, fault in zip(found, faults, strict=True))


TWO = """
import subprocess, sys
hold = "import time; held = bytearray(50_000_000); time.sleep(1)"
for process in [subprocess.Popen([sys.executable, "-c", hold]) for _ in range(2)]:
    process.wait()
"""


def test_time_and_memory_of_all_processes_are_measured(script: ModuleType) -> None:
    code, seconds, peak = script.measured([sys.executable, "-c", TWO])
    assert code == 0 and 1 < seconds < 30
    assert peak > (100_000_000 if sys.platform == "linux" else 50_000_000), "two of them at once"
    assert script.measured([sys.executable, "-c", "raise SystemExit(3)"])[0] == 3


def test_ci_runs_it() -> None:
    assert ".ci/quickstart.py runs/quickstart make quickstart" in SCRIPT.with_name("run").read_text()
