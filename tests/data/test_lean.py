"""Arrow's first array imports pandas, and ours does not; whoever wants pandas still has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_who_calls_prepare_from_python_has_arrow_as_before(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "a.txt").write_text("A text of a few words.\n" * 20)
    code = """
import pandas, pyarrow, tilth
data = {"sources": [{"path": "a.txt"}], "split": {"validation": 0.2, "by": "tail"}, "clean": "none"}
recipe = tilth.make_recipe({"name": "a", "data": data, "tokenizer": {"kind": "char"}, "train": {"steps": 1}})
tilth.prepare(recipe, workers=1)
assert pyarrow.array(pandas.Series([1.0, float("nan")])).null_count == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
