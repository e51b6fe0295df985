"""What preparing says besides its table: what a reader of the numbers alone would take for something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import write_recipe


@pytest.mark.slow
@pytest.mark.parametrize(("kept", "told"), [("keep", True), ("drop", False)])
def test_patterns_that_came_to_no_end_are_told_with_a_remedy(tmp_path: Path, cli: Cli, kept: str, told: bool) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"text": "{"a" * 60}! number {n} of the rows"}}\n' for n in range(3)) + '{"text": "b! fine"}\n'
    )
    endless = {"rules": [{"name": "evil", "pattern": "(a|a)+$"}], "timeout_seconds": 0.05, "on_timeout": kept}
    write_recipe(tmp_path / "r.yaml", "rows.jsonl", data={"clean": [{"drop_spans": endless}]})
    said = cli("prepare", "r.yaml")
    expected = (
        "drop_spans came to no end with 3 documents, which went on as if it were not there (clean/drop_spans/timeout; "
        "one is counted in each such stage): `timeout_seconds` gives it longer, `on_timeout: drop` takes them out"
    )
    assert said.code == 0 and (expected in " ".join(said.err.split())) is told, said.err
