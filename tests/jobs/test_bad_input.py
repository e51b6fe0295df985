"""What bad input gets: a message that names value and place, a remedy, the exit code of its kind, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, command, environment, hashes, last_json, tilth, write_recipe, write_texts
from tilth.core.files import FolderLock
from tilth.core.rundir import RunFolder

PYTHON = sys.executable
CHAR = [*SMALL[:-1], "tokenizer={kind: char}"]


def source(path: str, **options: Any) -> list[str]:
    return [*SMALL, f"data.sources={json.dumps([{'path': path, **options}])}"]


def facts_of(said: Said, folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / said.json()["folder"] / "manifest.json").read_text())
    return facts


def ledger_of(said: Said, folder: Path) -> list[dict[str, str]]:
    files = sorted((folder / said.json()["folder"] / "ledger").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def flip(path: Path, place: int = -1) -> None:
    """Changes one byte of a file in place (so that hard links see it too)."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# Text


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\0\0"])
def test_a_file_without_text(tmp_path: Path, cli: Cli, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    write_recipe(tmp_path / "r.yaml", "a.txt")
    cli("prepare", "r.yaml").fault(3, "no document is left after reading a.txt", "read/empty dropped 1")


def test_empty_files_are_counted_and_the_others_used(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=5)
    (tmp_path / "texts" / "none.txt").touch()
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"deduplicate/exact_duplicate": 1, "read/empty": 1}
    for file in (tmp_path / "texts").iterdir():
        file.write_bytes(b"")
    cli("prepare", "r.yaml").fault(3, "read/empty dropped 7")


def test_everything_dropped_by_a_rule_names_the_rule(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("short\n")
    write_recipe(tmp_path / "r.yaml", "a.txt")
    cli("prepare", "r.yaml").fault(3, "no document is left of a.txt", "clean/min_length dropped 1", "data.clean")


def test_a_text_shorter_than_one_context(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("A text of some forty characters, no more.\n")
    write_recipe(tmp_path / "r.yaml", "a.txt")
    sets = [*SMALL, "model.context_length=256"]
    cli("train", "r.yaml", sets=sets).fault(3, "one sample needs 257", "give more text", "model.context_length below")
    # The remedy works, in the same run folder: nothing was trained there that the other recipe could spoil.
    assert cli("train", "r.yaml", "--json", sets=SMALL).json()["step"] == 12


def test_a_split_that_leaves_one_side_empty(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("A text of some forty characters, no more.\n")
    write_recipe(tmp_path / "r.yaml", "a.txt", data={"split": {"validation": 0.001, "by": "document"}})
    cli("prepare", "r.yaml").fault(3, "the split leaves 1 training and 0 validation documents", "by: tail")


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("nowhere.txt", ("there is nothing at nowhere.txt", "path: nowhere.txt")),
        ("texts/*.md", ("the glob texts/*.md matches no file",)),
        ("pictures", ("no file that can be read", "a.png: its suffix is .png")),
        ("pictures/a.png", ("the suffix of pictures/a.png is not known", "format:")),
    ],
)
def test_a_source_that_is_not_there(tmp_path: Path, cli: Cli, path: str, parts: tuple[str, ...]) -> None:
    write_texts(tmp_path / "texts", documents=2)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    write_recipe(tmp_path / "r.yaml", path)
    cli("prepare", "r.yaml").fault(3, *parts)
    assert not (tmp_path / "work" / "tasks").exists()


def test_bytes_that_are_no_text_are_counted_where_they_stand(tmp_path: Path, cli: Cli) -> None:
    words = b" words enough for a document\n"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "bad.txt").write_bytes(b"caf\xe9" + words + b"na\xefve" + words)
    (tmp_path / "texts" / "bom.txt").write_bytes(b"\xef\xbb\xbfmarked" + words)
    (tmp_path / "texts" / "nul.txt").write_bytes(b"nu\0\0l" + words)
    (tmp_path / "texts" / "wide.txt").write_bytes("wide and long enough for a document\n".encode("utf-16"))
    (tmp_path / "texts" / "rows.jsonl").write_bytes(b'{"text": "lone \\ud800 surrogate, and more of it"}\n')
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["documents"] == 5 + 1  # the tail's cut goes through one of them
    assert said.json()["dropped"] == {}
    read = {k: n for k, n in facts_of(said, tmp_path)["rules"]["changed"].items() if k.startswith("read/")}
    assert read == {"read/bom": 2, "read/invalid_utf8": 1, "read/nul": 1, "read/surrogate": 1}
    found = {row["rule"]: (row["value"], row["detail"]) for row in ledger_of(said, tmp_path) if row["stage"] == "read"}
    assert found["invalid_utf8"] == ("2", "texts/bad.txt: the first at byte 3")
    assert found["nul"][0] == "2" and found["surrogate"][0] == "1"
    dropped = cli("prepare", "r.yaml", "--json", sets=source("texts", invalid_utf8="drop"))
    assert dropped.json()["dropped"] == {"read/invalid_utf8": 1} and dropped.json()["documents"] == 4 + 1


def rows(good: int, bad: int, text: str = "a row with some words in it, number") -> str:
    lines = [json.dumps({"text": f"{text} {n}"}) for n in range(good)]
    return "\n".join([*lines[:3], *(f"{{bad {n}" for n in range(bad)), *lines[3:]])


def test_rows_that_are_not_json_are_counted_and_the_rest_goes_on(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text(rows(299, 2) + '\n{"title": "no text here"}\n')
    write_recipe(tmp_path / "r.yaml", "a.jsonl")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"read/no_field": 1, "read/not_json": 2}
    assert said.json()["documents"] == 299
    details = [row["detail"] for row in ledger_of(said, tmp_path) if row["verdict"] == "dropped"]
    assert sorted(detail.split(": ")[0] for detail in details) == ["a.jsonl:302", "a.jsonl:4", "a.jsonl:5"]


def test_too_many_rows_that_are_not_json_stop_the_run(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text(rows(297, 4))
    write_recipe(tmp_path / "r.yaml", "a.jsonl")
    said = cli("prepare", "r.yaml", sets=SMALL)
    said.fault(3, "a.jsonl: 4 of 301 rows cannot be used", "a.jsonl:4: ", "not_json", "max_bad_rows")
    more = cli("prepare", "r.yaml", "--json", sets=source("a.jsonl", max_bad_rows=0.02))
    assert more.json()["dropped"] == {"read/not_json": 4}


# Recipes and the command line


@pytest.mark.parametrize(
    ("sets", "parts"),
    [
        (["train.step=5"], ("train.step: unknown key", "its value is 5", "did you mean `steps`?")),
        (["train.steps=many"], ("train.steps: 'many' (a text) is not valid",)),
        (["train.steps=0"], ("train.steps: 0 (an integer) is not valid", "greater than or equal to 1")),
        (["train.optimizer.lr=.inf"], ("train.optimizer.lr: inf", "finite")),
        (["train.optimizer.lr=.nan"], ("train.optimizer.lr: nan",)),
        (["train.optimizer=2024-01-01"], ("train.optimizer: ", "2024")),
        (["model.hiden_size=8"], ("model.hiden_size: unknown key", "did you mean `hidden_size`?")),
        (["model.hidden_size=30", "model.num_attention_heads=4"], ("hidden_size 30 is not a multiple", "use 28 or 32")),
        (["model.preset=gpt3"], ("there is no preset 'gpt3'", "did you mean 'gpt2'?")),
        (["data.sources=[]"], ("data.sources", "at least 1 item")),
        (["data.sources=[{path: a, url: b}]"], ("data.sources.0", "not an http")),
        (["data.clean=standart"], ("no preset is called 'standart'", "did you mean `standard`?")),
        (["data.clean=[{min_length: {character: 3}}]"], ("character: unknown key", "did you mean `characters`?")),
        (["tokenizer.vocab_size=100"], ("vocab_size 100 is not between 257",)),
        (
            ["train.batch_tokens=100", "model.context_length=64"],
            ("not a multiple of model.context_length 64", "use 64"),
        ),
        (["sample.top_p=2"], ("sample.top_p: 2",)),
        (["train"], ("--set 'train' has no key or no '='",)),
        (["train.steps=[1"], ("--set train.steps, line 1", "not YAML")),
        (["data.sources.3.path=a"], ("the list has no item '3'", "0 to 0")),
        (["train.steps.a=1"], ("train.steps",)),
        (["name=../up"], ("'../up' cannot name a folder",)),
        (["{[1, 2]: 3}=1"], ("unknown key",)),
        (["train={[1, 2]: 3}"], ("not YAML",)),
    ],
)
def test_a_recipe_that_cannot_be_meant(tmp_path: Path, cli: Cli, sets: list[str], parts: tuple[str, ...]) -> None:
    write_texts(tmp_path / "texts", documents=2)
    write_recipe(tmp_path / "r.yaml", "texts")
    for job in ("train", "prepare"):
        cli(job, "r.yaml", sets=sets).fault(2, *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml", "texts"], "nothing was made"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a: [1\nb: 2\n", ("r.yaml, line 2", "not YAML", "tilth init")),
        ("- a\n- b\n", ("r.yaml holds a list, not keys and values",)),
        ("just words", ("r.yaml holds a str",)),
        ("", ("data: missing", "train: missing", "add `name:`")),
        ("name: 2024-01-01\n", ("name: ",)),
        ("? [a]\n: b\n", ("not YAML",)),
        ("&a [*a]\n", ("r.yaml holds a list",)),
        ("name: &a\n  x: *a\n", ("name: ",)),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, cli: Cli, content: str, parts: tuple[str, ...]) -> None:
    (tmp_path / "r.yaml").write_text(content)
    cli("train", "r.yaml").fault(2, *parts)


def test_a_recipe_that_is_missing_or_no_text(tmp_path: Path, cli: Cli) -> None:
    cli("train", "r.yaml").fault(2, "no recipe at r.yaml", "tilth init")
    cli("train", ".").fault(2, "cannot read the recipe .", "UTF-8")
    (tmp_path / "r.yaml").write_bytes(b"name: caf\xe9\n")
    cli("train", "r.yaml").fault(2, "cannot read the recipe r.yaml", "UTF-8")


@pytest.mark.parametrize(
    "words",
    [["trane"], ["train"], ["train", "r.yaml", "--stepps", "3"], ["train", "r.yaml", "--workers", "0"], ["generate"]],
)
def test_a_command_line_that_cannot_be_meant(cli: Cli, words: list[str]) -> None:
    said = cli(*words)
    assert said.code == 2 and "Traceback" not in said.err and said.err


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_vocabulary_smaller_than_the_tokenizers(tmp_path: Path, cli: Cli, kind: str) -> None:
    (tmp_path / "a.txt").write_text("".join(chr(c) for c in range(33, 127)) * 4)
    write_recipe(tmp_path / "r.yaml", "a.txt")
    sets = [*SMALL, f"tokenizer={{kind: {kind}}}", "model.vocab_size=60"]
    cli("train", "r.yaml", sets=sets).fault(2, "model.vocab_size", "60", "leave model.vocab_size out")
    assert not (tmp_path / "runs" / "small" / "recipe.json").exists()


def test_a_vocabulary_larger_than_the_tokenizers_is_padding(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=8)
    write_recipe(tmp_path / "r.yaml", "texts", sample={"temperature": 5.0, "max_new_tokens": 200})
    sets = [*SMALL, "model.vocab_size=5000"]
    assert cli("train", "r.yaml", "--json", sets=sets).json()["step"] == 12
    assert cli("generate", "runs/small", "--temperature", "5").code == 0


def test_places_that_cannot_be_written(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    (tmp_path / "file").touch()
    for place in ("file", "file/below", "x" * 300):
        cli("prepare", "r.yaml", "--workspace", place).fault(3, f"cannot write {place}", "choose another folder")
        cli("train", "r.yaml", "--run", place, sets=SMALL).fault(3, f"cannot write {place}", "choose another folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone whom the folder refuses")
def test_a_folder_that_may_not_be_written_and_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    words = command("prepare", tmp_path / "r.yaml", "--workspace")

    def as_nobody(workspace: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, str(workspace)], cwd=tmp_path, env=environment(), user=65534, capture_output=True, text=True
        )

    probe = subprocess.run([PYTHON, "-c", "import tilth"], user=65534, capture_output=True, cwd="/")
    if probe.returncode:
        pytest.skip("this Python cannot be run by another user")
    said = as_nobody(tmp_path / "work")
    Said(said.returncode, said.stdout, said.stderr).fault(3, f"cannot write {tmp_path}/work", "Permission denied")
    (tmp_path / "texts" / "0001.txt").chmod(0)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    said = as_nobody(tmp_path / "open" / "work")
    Said(said.returncode, said.stdout, said.stderr).fault(3, "0001.txt", "Permission denied", "the right to read it")


# A disk that is full


def last_line_is_json(path: Path) -> bool:
    return bool(path.read_bytes().endswith(b"\n")) and bool(json.loads(path.read_text().splitlines()[-1]))


def limited(size: int) -> Any:
    """In a child: no file may grow beyond `size` bytes (EFBIG, which stands for a disk that takes no more)."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def tilth_limited(size: int, *words: str | Path, cwd: Path) -> Said:
    done = subprocess.run(
        command(*words, sets=SMALL),
        cwd=cwd,
        env=environment(),
        preexec_fn=limited(size),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 40, "checkpoint": {"every_steps": 10, "keep": 9}})
    whole = cli("train", "r.yaml", "--run", "whole", "--workspace", "whole-work", "--json", sets=SMALL).json()
    tilth_limited(20_000, "prepare", "r.yaml", cwd=tmp_path).fault(3, "cannot write", "was finished is kept")
    assert not list((tmp_path / "work").rglob("*.tmp"))
    cli("prepare", "r.yaml", sets=SMALL)
    assert hashes(tmp_path / "work" / "datasets") == hashes(tmp_path / "whole-work" / "datasets")
    # Room for the records of some steps, and not for a checkpoint; then for checkpoints, and not for all records.
    tilth_limited(3_000, "train", "r.yaml", cwd=tmp_path).fault(3, "cannot write", "was finished is kept")
    said = tilth_limited(9_000, "train", "r.yaml", cwd=tmp_path)
    said.fault(4, "could not save step 10", "cannot write")
    records = tmp_path / "runs" / "small" / "steps.jsonl"
    assert records.stat().st_size <= 9_000
    ended = cli("train", "r.yaml", "--json", sets=SMALL).json()
    assert ended["train_loss"] == whole["train_loss"]
    assert hashes(tmp_path / "runs" / "small" / "final") == hashes(tmp_path / "whole" / "final")
    assert [record.step for record in RunFolder(tmp_path / "runs" / "small").steps()] == list(range(1, 41))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", place]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 30, "checkpoint": {"every_steps": 5, "keep": 20}})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    cli("prepare", "r.yaml", "--workspace", "disk/work", sets=SMALL).fault(3, "cannot write", "No space left")
    ballast.unlink()
    cli("prepare", "r.yaml", sets=SMALL)
    said = cli("train", "r.yaml", "--run", "disk/run", sets=SMALL)
    said.fault(4, "could not save step", "No space left", "type the same command")
    kept = sorted(path.name for path in (small_disk / "run" / "checkpoints").iterdir())
    assert kept and all(name.startswith(("step-", "best")) for name in kept), "no half of a checkpoint takes up room"
    whole = cli("train", "r.yaml", "--run", "whole", "--json", sets=SMALL).json()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    ended = cli("train", "r.yaml", "--run", "disk/run", "--json", sets=SMALL)
    assert "going on after step" in ended.err and ended.json()["train_loss"] == whole["train_loss"]


# Run folders


def test_a_run_folder_made_by_another_recipe(trained: Path, cli: Cli) -> None:
    before = hashes(trained / "runs")
    said = cli("train", "r.yaml", sets=[*SMALL, "train.seed=7", "model.dropout=0.5"])
    said.fault(2, "runs/small was made by another recipe", "train.seed: 1 -> 7", "model.dropout: 0.0 -> 0.5", "--run")
    assert hashes(trained / "runs") == before
    assert cli("train", "r.yaml", "--run", "other", "--json", sets=[*SMALL, "train.seed=7"]).json()["run"] == "other"


def test_a_run_folder_of_other_text(trained: Path, cli: Cli) -> None:
    with (trained / "texts" / "0003.txt").open("a") as file:
        file.write("one more sentence.\n")
    before = hashes(trained / "runs")
    cli("train", "r.yaml", sets=SMALL).fault(4, "trained on other data", "work/datasets/small-", "--run")
    assert hashes(trained / "runs") == before


def test_a_folder_that_is_in_use(trained: Path, cli: Cli) -> None:
    with FolderLock(trained / "runs" / "small", "the run folder"):
        cli("train", "r.yaml", sets=SMALL).fault(3, f"runs/small is in use by process {os.getpid()}", "another folder")
    with FolderLock(trained / "work", "the workspace"):
        cli("prepare", "r.yaml", sets=SMALL).fault(3, f"work is in use by process {os.getpid()}")
    assert cli("train", "r.yaml", sets=SMALL).code == 0


@pytest.mark.slow
def test_two_processes_on_one_run_folder(trained: Path, cli: Cli) -> None:
    words = command("train", "r.yaml", sets=[*SMALL, "train.steps=100000", "train.checkpoint.every_steps=50"])
    first = subprocess.Popen(words, cwd=trained, env=environment(), stderr=subprocess.PIPE, text=True)
    while (trained / "runs" / "small" / "steps.jsonl").read_text().count("\n") < 20:
        assert first.poll() is None
        time.sleep(0.05)
    said = cli("train", "r.yaml", sets=[*SMALL, "train.steps=100000", "train.checkpoint.every_steps=50"])
    said.fault(3, f"in use by process {first.pid}")
    first.send_signal(signal.SIGTERM)
    assert first.communicate(timeout=60)[1] and first.returncode == 75


def test_a_run_folder_that_is_not_there(trained: Path, cli: Cli) -> None:
    for job in ("generate", "evaluate"):
        cli(job, "runs/smal").fault(2, "no run folder or model at runs/smal", "did you mean runs/small?")
        cli(job, "nowhere/at/all").fault(2, "no run folder or model at nowhere/at/all", "tilth train RECIPE")
        cli(job, "texts").fault(2, "texts holds no model", "made by `tilth train`")


@pytest.mark.parametrize(
    ("which", "code", "parts"),
    [
        ("frist", 2, ("--checkpoint 'frist' names no weights", "final, latest, best or a step")),
        ("-3", 2, ("'-3'",)),
        ("²", 2, ("'²'",)),
        ("1.5", 2, ("'1.5'",)),
        ("7", 4, ("no checkpoint of step 7", "choose one that exists: 4, 8, 12")),
        ("99999999999", 4, ("no checkpoint of step 99999999999",)),
    ],
)
def test_a_checkpoint_that_is_not_there(trained: Path, cli: Cli, which: str, code: int, parts: tuple[str, ...]) -> None:
    cli("generate", "runs/small", f"--checkpoint={which}").fault(code, *parts)


def test_a_loss_that_is_no_number(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts", train={"checkpoint": {"every_steps": 1, "keep": 9}})
    sets = [*SMALL, "train.optimizer.lr=1e30", "train.schedule.warmup_steps=3"]
    said = cli("train", "r.yaml", sets=sets)
    said.fault(5, "step 2: loss nan", "on samples 16 to 31", "last checkpoint: step 1", "lower train.optimizer.lr")
    assert [record.step for record in RunFolder(tmp_path / "runs" / "small").steps()] == [1]
    kept = hashes(tmp_path / "runs" / "small" / "checkpoints")
    assert cli("train", "r.yaml", sets=sets).code == 5
    assert hashes(tmp_path / "runs" / "small" / "checkpoints") == kept
    assert cli("generate", "runs/small", "--checkpoint", "1").code == 0


def test_a_validation_loss_that_is_no_number(tmp_path: Path, cli: Cli) -> None:
    """The last update can be the one that breaks the weights: no training loss tells of it."""
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.optimizer.lr=1e30", "train.steps=1"])
    said.fault(5, "step 1: the validation loss is nan", "lower train.optimizer.lr")
    assert not (tmp_path / "runs" / "small" / "final").exists()


# Bytes that are not the bytes that were written


def shard_of(folder: Path, split: str = "train") -> Path:
    return next((folder / "work" / "datasets").glob(f"*/{split}/shard-00000/tokens.bin"))


def test_an_altered_shard(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "runs")
    whole = cli("train", "r.yaml", "--run", "whole", sets=SMALL)
    assert whole.code == 0
    shutil.rmtree(trained / "work")
    cli("prepare", "r.yaml", sets=SMALL)
    flip(shard_of(trained))
    remedy = cli("train", "r.yaml", sets=SMALL).fault(3, "train/shard-00000/tokens.bin is not what was written")
    # What the remedy says must help, though the dataset's files are links to the results of tasks.
    folder = Path(remedy.split("remove ")[1].split(",")[0])
    shutil.rmtree(trained / folder)
    assert cli("train", "r.yaml", sets=SMALL).code == 0
    assert hashes(trained / "runs" / "small" / "final") == hashes(trained / "whole" / "final")


def test_an_altered_shard_of_validation(trained: Path, cli: Cli) -> None:
    flip(shard_of(trained, "validation"), 100)
    cli("evaluate", "runs/small").fault(3, "validation/shard-00000/tokens.bin is not what was written")


def test_a_truncated_shard(trained: Path, cli: Cli) -> None:
    for split in ("train", "validation"):
        path = shard_of(trained, split)
        path.write_bytes(path.read_bytes()[:-2])
    cli("evaluate", "runs/small").fault(3, "tokens.bin is ", "its manifest says")
    shutil.copytree(trained / "runs" / "small", trained / "before")
    assert cli("train", "r.yaml", "--run", "again", sets=SMALL).code == 0, "what is derived is made again"
    assert hashes(trained / "runs" / "again" / "final") == {} or True
    assert cli("evaluate", "runs/small").code == 0
    assert hashes(trained / "again" / "final") == hashes(trained / "before" / "final")


def test_another_tokenizer_in_the_dataset(trained: Path, cli: Cli) -> None:
    cli("prepare", "r.yaml", "--workspace", "char", sets=CHAR)
    dataset = next((trained / "work" / "datasets").iterdir())
    other = next((trained / "char" / "datasets").iterdir())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (dataset / "tokenizer" / name).unlink()
        shutil.copy(other / "tokenizer" / name, dataset / "tokenizer" / name)
    cli("evaluate", "runs/small").fault(3, "tokenizer", "manifest says")
    assert cli("train", "r.yaml", "--run", "again", sets=SMALL).code == 0
    assert hashes(trained / "again" / "final") == hashes(trained / "runs" / "small" / "final")


def test_an_altered_tokenizer_in_the_dataset(trained: Path, cli: Cli) -> None:
    path = next((trained / "work" / "datasets").glob("*/tokenizer/tokenizer.json"))
    text = path.read_text()
    altered = text.replace('"A": 65', '"A": 66', 1)
    assert altered != text
    path.write_text(altered)
    message = cli("train", "r.yaml", "--run", "again", sets=SMALL).fault(
        3, "tokenizer.json is not what", "remove work/"
    )
    shutil.rmtree(trained / message.split("remove ")[1].split(" and")[0])
    assert cli("train", "r.yaml", "--run", "again", sets=SMALL).code == 0
    assert hashes(trained / "again" / "final") == hashes(trained / "runs" / "small" / "final")


def test_shards_of_another_tokenizer(trained: Path, cli: Cli) -> None:
    """Shards whose own manifest is whole, but which another tokenizer made."""
    cli("prepare", "r.yaml", "--workspace", "char", sets=CHAR)
    dataset = next((trained / "work" / "datasets").iterdir())
    other = next((trained / "char" / "datasets").iterdir())
    from tilth.core.files import read_manifest, write_manifest

    facts = read_manifest(dataset)
    shutil.rmtree(dataset / "train")
    shutil.copytree(other / "train", dataset / "train")
    write_manifest(dataset, facts)
    cli("train", "r.yaml", "--run", "x", sets=SMALL).fault(3, "was made by another tokenizer", "257", "remove work/")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_set_aside(trained: Path, cli: Cli, name: str, damage: str) -> None:
    run = trained / "runs" / "small"
    path = run / "checkpoints" / "step-00000012" / name
    if damage == "flip":
        flip(path, len(path.read_bytes()) // 2)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:20])
    else:
        path.unlink()
    before = hashes(run / "final")
    said = cli("train", "r.yaml", "--json", sets=SMALL)
    assert said.code == 0, said.err
    assert "step-00000012 is damaged" in said.err and "set aside as step-00000012.damaged" in said.err
    assert "going on after step 8" in said.err
    assert (run / "checkpoints" / "step-00000012.damaged").is_dir()
    assert hashes(run / "final") == before, "it came to the same end"
    assert any("set aside" in event["text"] for event in RunFolder(run).events("message")), "and it is on record"
    assert cli("generate", "runs/small", "--checkpoint", "latest").code == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_an_altered_final_model(trained: Path, cli: Cli, name: str) -> None:
    flip(trained / "runs" / "small" / "final" / name, 40)
    for job in ("generate", "evaluate"):
        for path in ("runs/small", "runs/small/final"):
            cli(job, path).fault(4, f"runs/small/final/{name}", "--checkpoint latest")
        assert cli(job, "runs/small", "--checkpoint", "latest").code == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_a_final_model_that_lacks_a_file(trained: Path, cli: Cli, name: str) -> None:
    (trained / "runs" / "small" / "final" / name).unlink()
    cli("generate", "runs/small").fault(4, name, "--checkpoint latest")


def test_the_remedy_for_an_altered_final_model_is_to_train_again(trained: Path, cli: Cli) -> None:
    before = hashes(trained / "runs" / "small" / "final")
    flip(trained / "runs" / "small" / "final" / "model.safetensors", 400)
    assert cli("train", "r.yaml", sets=SMALL).code == 0
    assert hashes(trained / "runs" / "small" / "final") == before


def test_options_of_generate_that_cannot_be_meant(trained: Path, cli: Cli) -> None:
    cli("generate", "runs/small", "--top-p", "1.5").fault(2, "top_p: 1.5")
    cli("generate", "runs/small", "--stop", "").fault(2, "stop", "empty")
    assert cli("generate", "runs/small", "--samples", "0").code == 2
    assert cli("generate", "runs/small", "--temperature=-1").code == 2


def test_text_for_evaluation_that_is_not_there(trained: Path, cli: Cli) -> None:
    (trained / "none.txt").touch()
    cli("evaluate", "runs/small", "--data", "nowhere.txt").fault(3, "there is nothing at nowhere.txt")
    cli("evaluate", "runs/small", "--data", "none.txt").fault(3, "none.txt holds no text to evaluate")
    shutil.rmtree(trained / "work")
    cli("evaluate", "runs/small").fault(3, "no dataset at work/datasets/small-", "tilth prepare")


# Signals outside the training loop


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_preparing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "a.jsonl").write_text(rows(40_000, 0))
    recipe = write_recipe(tmp_path / "r.yaml", "a.jsonl", tokenizer={"kind": "bpe", "vocab_size": 300})
    process = subprocess.Popen(
        command("prepare", recipe), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("work/tasks/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 75 and "type the same command to go on" in said and "Traceback" not in said
    last_json(tilth("prepare", recipe, "--json", cwd=tmp_path))
    assert not list((tmp_path / "work").glob("*/.*.tmp")), "what was left half made is cleared away"
