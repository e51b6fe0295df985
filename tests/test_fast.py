"""The fast part of the suite stays fast: what conftest.py does about tests that take long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BODY = "\n    end = time.process_time() + 0.3\n    while time.process_time() < end: pass\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    head = "import time\nimport pytest\n"
    (tmp_path / "test_some.py").write_text(
        f"{head}def test_long():{BODY}@pytest.mark.slow\ndef test_marked():{BODY}def test_short(): pass\n"
    )
    (tmp_path / "test_slow.py").write_text(
        f"{head}pytestmark = pytest.mark.slow\nprint('imported')\ndef test(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: long\nfast_seconds = 0.2\n")
    return tmp_path


def run(suite: Path, *options: str) -> str:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-s", *options]
    return subprocess.run(words, cwd=suite, capture_output=True, text=True, timeout=120).stdout


def test_a_test_that_takes_long_and_is_not_marked_fails(suite: Path) -> None:
    said = run(suite)
    assert "FAILED test_some.py::test_long - Failed: it took 0." in said
    assert "3 passed" in said and "1 failed" in said and "imported" in said


def test_files_of_slow_tests_are_not_imported_where_those_are_left_out(suite: Path) -> None:
    said = run(suite, "-m", "not slow")
    assert "1 passed, 1 deselected" in said.replace("1 failed, ", "") and "imported" not in said
