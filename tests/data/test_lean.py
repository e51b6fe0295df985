"""Arrow's first array imports pandas, and ours does not; whoever wants pandas still has it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FIRST_ARRAY = "import sys, pyarrow as pa; {before}pa.array([1]); assert ('pandas' in sys.modules) is {there}; "
WANTED = "assert pa.table({'a': [1]}).to_pandas().a.tolist() == [1]"


@pytest.mark.parametrize(
    ("before", "there"),
    [
        ("", True),
        ("from tilth.data.lean import without_pandas; without_pandas(); ", False),
        ("import tilth.data.server; ", False),
    ],
)
def test_the_first_array_is_made_without_pandas(before: str, there: bool) -> None:
    pytest.importorskip("pandas")
    code = FIRST_ARRAY.format(before=before, there=there) + WANTED
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
