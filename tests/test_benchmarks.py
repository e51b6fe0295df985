"""The benchmarks run, and what they plant is what they say."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from tests.jobs.helpers import environment

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("similarity", [0.5, 0.75, 0.9])
def test_planted_near_duplicates_have_the_similarity_that_is_said(similarity: float) -> None:
    bench = load("near_duplicates")
    draw = random.Random(7)
    text = next(text for text in bench.texts(50) if len(text.split()) > 250)
    real = [
        bench.jaccard(bench.shingles(text), bench.shingles(bench.altered(text, similarity, draw))) for _ in range(9)
    ]
    assert sum(real) / len(real) == pytest.approx(similarity, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "times", "told"),
    [(("--megabytes", "1"), 2, " x 1 MB .* MB/s "), (("--lines", "2500"), 1, " x 0 MB +2,500 documents .* MB/s ")],
    ids=["megabytes", "lines"],
)
def test_the_cost_of_more_text_is_measured(tmp_path: Path, corpus: tuple[str, str], times: int, told: str) -> None:
    """A line for each size: once and twice as much of the one, of the other a single one, which goes the same way."""
    sizes = map(str, range(1, times + 1))
    command = [sys.executable, str(FOLDER / "scaling.py"), *corpus, "--times", *sizes, "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if re.search(told, line)]) == times, done.stdout
