"""Text given to `evaluate --data` and `generate --prompt` loses nothing silently."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.helpers import SMALL, tilth, write_recipe, write_texts


@pytest.mark.slow
def test_what_is_not_taken_as_it_is_is_said(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=30)
    recipe = write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 2}, data={"clean": "standard"})
    sets = [*SMALL, "tokenizer={kind: char}"]
    assert tilth("train", recipe, "--run", "run", cwd=tmp_path, sets=sets).returncode == 0
    (tmp_path / "bad.jsonl").write_text(
        "".join('{"text": "rain on the field in the deep green"}\n' for _ in range(200))
    )
    with (tmp_path / "bad.jsonl").open("a") as file:
        file.write('no json\n{"text": "sun"}\n{"text": "the sun and the ÄÖ field"}\n')
    done = tilth("evaluate", "run", "--data", "bad.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bad.jsonl: dropped by read/not_json: 1" in done.stderr
    assert "bad.jsonl: dropped by clean/min_length: 1" in done.stderr
    assert "bad.jsonl: 2 characters that the tokenizer does not know" in done.stderr

    written = tilth("generate", "run", "--prompt", "the ß", "--max-new-tokens", "3", cwd=tmp_path)
    assert written.returncode == 0 and "'ß'" in written.stderr
    refused = tilth("evaluate", "run", "--data", "", cwd=tmp_path)
    assert refused.returncode == 2 and "path" in refused.stderr and "Traceback" not in refused.stderr
