"""The prepared documents and the ledger are plain Parquet: other tools read them as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.jobs.conftest import call
from tests.jobs.helpers import SMALL, last_json, tilth, write_recipe, write_texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("prepared")
    write_texts(folder / "texts", documents=150)
    data = {"deduplicate": "near", "split": {"validation": 0.1, "test": 0.1, "by": "document"}}
    recipe = write_recipe(folder / "r.yaml", "texts", data={"sources": [{"path": "texts"}], **data})
    summary = last_json(tilth("prepare", recipe, "--json", cwd=folder))
    return folder / summary["folder"], summary


def test_duckdb_reads_documents_and_ledger(prepared: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = prepared
    [documents] = duckdb.sql(
        f"SELECT count(*), count(DISTINCT doc_id) FROM '{folder}/documents/*/*.parquet'"
    ).fetchall()
    assert documents == (summary["documents"], summary["documents"])
    rules = duckdb.sql(
        f"SELECT stage || '/' || rule, count(*) FROM '{folder}/ledger/*.parquet' WHERE verdict = 'dropped' GROUP BY 1"
    ).fetchall()
    assert dict(rules) == summary["dropped"] and sum(summary["dropped"].values()) > 0


def by_datasets(folder: Path) -> dict[str, Any]:
    """What the library reads of a dataset's documents: of each split rows, columns and the first text."""
    # In a process of its own: the library sets up logging, threads and caches that are not ours.
    script = (
        "import datasets, json, sys\n"
        "data = datasets.load_dataset('parquet', data_dir=sys.argv[1], cache_dir=sys.argv[2])\n"
        "print(json.dumps({s: [data[s].num_rows, data[s].column_names, data[s][0]['text']] for s in data}))"
    )
    command = [sys.executable, "-c", script, str(folder / "documents"), str(folder / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


def test_datasets_reads_documents_split_by_split(prepared: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = prepared
    read = by_datasets(folder)
    assert set(summary["tokens"]) == set(read) == {"train", "validation", "test"}
    assert sum(rows for rows, _, _ in read.values()) == summary["documents"]
    for rows, columns, text in read.values():
        assert rows > 0 and text.endswith(".\n")
        assert columns == ["doc_id", "text", "source", "locator", "license", "meta"]


def test_without_held_out_text_there_are_training_documents_alone(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=20)
    data = {"sources": [{"path": "texts"}], "split": {"validation": 0}}
    write_recipe(tmp_path / "r.yaml", "texts", data=data)
    summary = call(tmp_path, "prepare", "r.yaml", "--json", sets=SMALL).json()
    folder = tmp_path / summary["folder"]
    assert {split: rows for split, (rows, _, _) in by_datasets(folder).items()} == {"train": summary["documents"]}
    assert summary["tokens"]["validation"] == 0
    figures = call(tmp_path, "report", folder, "--json").json()
    assert figures["splits"]["validation"]["documents"] == 0
    assert call(tmp_path, "trace", folder, "--doc", "texts/0001.txt", "--json").json()["fate"] == "kept in train"
    assert call(tmp_path, "check", "r.yaml", "--json", sets=SMALL).json()["splits"]["validation"]["documents"] == 0
