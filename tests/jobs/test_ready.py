"""Training on data that is prepared: without its sources, without reading them, and with every altered byte noticed."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes, write_recipe, write_texts
from tests.jobs.test_damage import flip
from tilth.cli import show
from tilth.core.files import write_sealed
from tilth.core.tasks import Done
from tilth.data.plans import pipeline
from tilth.data.sources import hashes as source_hashes
from tilth.jobs.prepare import find_prepared, prepare_data
from tilth.jobs.ready import dataset_for_training
from tilth.jobs.recipe import load_recipe


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with texts that are a minute old, and r.yaml."""
    write_texts(tmp_path / "texts")
    then = time.time() - 60
    for path in (tmp_path / "texts").iterdir():
        os.utime(path, (then, then))
    write_recipe(tmp_path / "r.yaml", "texts")
    return tmp_path


def test_prepared_data_is_found_without_reading_a_source_or_looking_at_a_task(texts: Path) -> None:
    recipe = load_recipe(texts / "r.yaml", SMALL)
    made = prepare_data(recipe, texts / "work", workers=1, root=texts)
    shutil.rmtree(texts / "work" / "tasks")
    with mock.patch.object(source_hashes, "hash_file", side_effect=AssertionError("a source was read")):
        dataset, notes = dataset_for_training(recipe, None, texts / "work", root=texts)
    assert dataset.fingerprint == made.fingerprint and not notes
    assert not (texts / "work" / "tasks").exists()


@pytest.mark.parametrize("change", ["file", "recipe", "code", "record"])
def test_what_has_changed_is_prepared(texts: Path, change: str) -> None:
    recipe = load_recipe(texts / "r.yaml", SMALL)
    prepare_data(recipe, texts / "work", workers=1, root=texts)
    assert find_prepared(recipe, None, texts / "work", texts)
    versions = dict(pipeline.VERSIONS)
    if change == "file":
        (texts / "texts" / "0003.txt").write_text("Another text in this file, and a longer one than it was before.")
    elif change == "recipe":
        recipe = load_recipe(texts / "r.yaml", [*SMALL, "data.split.seed=4"])
    elif change == "code":
        versions["digest"] += 1
    else:
        flip(next((texts / "work" / "prepared").iterdir()), 40)
    with mock.patch.object(pipeline, "VERSIONS", versions):
        assert find_prepared(recipe, None, texts / "work", texts) is None


def test_every_kind_of_task_has_its_version_in_the_table(texts: Path) -> None:
    done: list[Done] = []
    (texts / "items.txt").write_text("What no text of ours says, in more words than eight, so that it is an item.")
    every = ["data.deduplicate=near", "data.shared_lines={}", "data.decontaminate.against=[items.txt]"]
    recipe = load_recipe(texts / "r.yaml", [*SMALL, *every])
    prepare_data(recipe, texts / "work", workers=1, root=texts, on_done=lambda task, *_: done.append(task))
    without = {"refused"}  # is done where a split would have nothing but conversations that are refused
    wanted = {kind: version for kind, version in pipeline.VERSIONS.items() if kind not in without}
    assert {task.task.kind: task.task.version for task in done} == wanted


def test_all_that_reads_is_done_anew_when_files_are_read_otherwise() -> None:
    raised = "from tilth.data import sources; sources.READING += 1"
    code = f"{raised}; from tilth.data.plans import pipeline; print(pipeline.VERSIONS)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    now = ast.literal_eval(said)
    assert {kind for kind, version in pipeline.VERSIONS.items() if now[kind] != version} == {"collect", "items"}
    assert now["collect"] > 18 + 1 and now["items"] > 5 + 1  # those before there was one number for both


@pytest.mark.slow
def test_other_evaluation_files_are_noticed_and_their_tasks_kept(texts: Path, cli: Cli) -> None:
    (texts / "items.txt").write_text("What no text of ours says, in more words than eight, so that it is an item.")
    sets = [*SMALL, "data.decontaminate.against=[items.txt]", "data.shared_lines={}"]
    recipe = load_recipe(texts / "r.yaml", sets)
    first = prepare_data(recipe, texts / "work", workers=1, root=texts)
    kinds = {name.split("-")[0] for name in first.facts["tasks"]}
    assert kinds >= {"items", "decontaminate", "lines", "shared", "shared_lines", "leaks", "recall", "hits"}
    assert cli("prepare", "r.yaml", "--prune", "--json", sets=sets).json()["removed"]["folders"] == 0
    found = find_prepared(recipe, None, texts / "work", texts)
    assert found is not None and found.dataset.folder == first.folder
    (texts / "items.txt").write_text("Another item, which no text of ours holds either, of more than eight words too.")
    assert find_prepared(recipe, None, texts / "work", texts) is None


@pytest.mark.slow
def test_what_decides_no_shard_asks_for_no_work(texts: Path) -> None:
    recipe = load_recipe(texts / "r.yaml", SMALL)
    prepare_data(recipe, texts / "work", workers=1, root=texts)
    sets = [*SMALL, "data.mixture={texts: {weight: 1}}", "data.cross_document_attention=false"]
    assert find_prepared(load_recipe(texts / "r.yaml", sets), None, texts / "work", texts)


@pytest.mark.slow
def test_training_goes_on_without_the_sources_and_says_so(trained: Path, cli: Cli) -> None:
    before = hashes(trained / "runs" / "small" / "final")
    shutil.rmtree(trained / "texts")
    shutil.rmtree(trained / "work" / "tasks")
    said = cli("train", "r.yaml", "--run", "again", "--json", sets=SMALL)
    assert said.code == 0, said.err
    assert (
        "the sources cannot be read (source texts: there is nothing at texts): going on with work/datasets" in said.err
    )
    assert hashes(trained / "again" / "final") == before
    events = (trained / "again" / "events.jsonl").read_text().splitlines()
    assert any("sources cannot be read" in json.loads(line).get("text", "") for line in events), "and it is on record"
    still = "is in work/datasets/small-"
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, "there is nothing at texts", "check `path: texts`", still)
    shutil.rmtree(trained / "work" / "datasets")
    assert still not in cli("train", "r.yaml", "--run", "third", sets=SMALL).expect_fault(
        3, "there is nothing at texts"
    )


@pytest.mark.slow
def test_any_flipped_byte_of_a_dataset_is_noticed_and_made_good(texts: Path, cli: Cli) -> None:
    printed = cli("prepare", "r.yaml", "--json", sets=SMALL).json()
    folder = texts / printed["folder"]
    whole = hashes(folder)
    wanted = ["train/shard-00000/", "validation/shard-00000/", "ledger/", "examples/", "documents/train/", "tokenizer/"]
    for start in wanted:
        assert any(name.startswith(start) for name in whole)
    for name in whole:
        if not (folder / name).stat().st_size:
            continue
        flip(folder / name, (folder / name).stat().st_size // 2)
        said = cli("prepare", "r.yaml", "--verify", "--json", sets=SMALL)
        assert said.code == 0 and "it is made again" in said.err, (name, said.err)
        assert name.split("/")[0] in said.err and hashes(folder) == whole, name
    said = cli("prepare", "r.yaml", "--verify", sets=SMALL)
    assert said.code == 0 and "made again" not in said.err


@pytest.mark.slow
def test_a_manifest_of_another_shard_is_noticed(texts: Path, cli: Cli) -> None:
    """It is sealed and whole; but it is not this dataset's."""
    folder = texts / cli("prepare", "r.yaml", "--json", sets=SMALL).json()["folder"]
    path = folder / "train" / "shard-00000" / "manifest.json"
    content: dict[str, Any] = json.loads(path.read_text())
    content["files"]["tokens.bin"]["sha256"] = content["files"]["tokens.bin"]["sha256"][::-1]
    write_sealed(path, content)
    cli("train", "r.yaml", sets=SMALL).expect_fault(3, "train/shard-00000/manifest.json is not what was written")


@pytest.mark.slow
def test_prune_removes_what_no_dataset_refers_to(texts: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert "no dataset refers to" not in first.err
    other = cli("prepare", "r.yaml", "--json", sets=[*SMALL, "data.split.seed=3"]).json()["folder"]
    assert other != first.json()["folder"]
    shutil.rmtree(texts / other)
    downloads = texts / "work" / "downloads"
    downloads.mkdir()
    (downloads / "a.txt.wrong").write_bytes(b"x" * 1000)
    (downloads / "a.txt").write_text("kept")
    before = {path.name for path in (texts / "work" / "tasks").iterdir()}
    few = cli("prepare", "r.yaml", sets=SMALL)
    assert few.code == 0 and "no dataset refers to" not in few.err  # what a first mistake leaves is not worth a word
    monkeypatch.setattr(show, "WORTH_TELLING", 1000)
    said = cli("prepare", "r.yaml", sets=SMALL)
    assert "8 results, " in said.err and "--prune removes them" in said.err, said.err
    assert f"prepare r.yaml --set '{SMALL[0]}'" in said.err, "as it was typed: another recipe needs other results"
    pruned = cli("prepare", "r.yaml", "--prune", "--json", sets=SMALL)
    assert pruned.json()["removed"]["folders"] == 8 and pruned.json()["removed"]["bytes"] > 1000
    after = {path.name for path in (texts / "work" / "tasks").iterdir()}
    gone = {"assign", "held_out", "held_out_index", "hits", "leaks", "recall", "encode"}
    assert {name.split("-")[0] for name in before - after} == gone and after < before
    assert not (downloads / "a.txt.wrong").exists() and (downloads / "a.txt").exists()
    whole = hashes(texts / first.json()["folder"])
    done = cli("prepare", "r.yaml", sets=SMALL)
    assert "done before" in done.err and hashes(texts / first.json()["folder"]) == whole
    assert {path.name for path in (texts / "work" / "tasks").iterdir()} == after, "nothing that is needed went"


@pytest.mark.slow
def test_older_datasets_go_when_asked_but_for_those_that_are_read(texts: Path, cli: Cli) -> None:
    recipe = load_recipe(texts / "r.yaml", SMALL)
    first = prepare_data(recipe, texts / "work", workers=1, root=texts)
    sets = [*SMALL, "data.split.seed=3"]
    write_recipe(texts / "other.yaml", "texts")
    (texts / "other.yaml").write_text((texts / "other.yaml").read_text().replace('"small"', '"small-2"'))
    namesake = cli("prepare", "other.yaml", "--json", sets=SMALL).json()["folder"]
    with first.held():
        kept = cli("prepare", "r.yaml", "--prune-datasets", "--json", sets=sets)
        assert kept.json()["removed"]["folders"] == 0 and "stays: it is in use" in kept.err
        assert first.folder.is_dir()
    gone = cli("prepare", "r.yaml", "--prune-datasets", "--json", sets=sets).json()
    assert gone["removed"]["folders"] >= 1 and not first.folder.exists()
    assert (texts / namesake).is_dir() and (texts / gone["folder"]).is_dir(), "only those of this name"
    again = prepare_data(recipe, texts / "work", workers=1, root=texts)
    assert again.fingerprint == first.fingerprint
