"""Bytes that are not the bytes that were written: noticed, named, and made again or set aside; never used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes
from tilth.core.errors import CheckpointError, IntegrityError
from tilth.core.files import read_manifest, write_manifest
from tilth.core.rundir import RunFolder
from tilth.jobs.load import load

pytestmark = pytest.mark.slow

CHAR = [*SMALL[:-1], "tokenizer={kind: char}"]


def flip(path: Path, place: int = -1) -> None:
    """Changes one byte of a file in place (so that hard links see it too)."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def shard_of(folder: Path, split: str = "train") -> Path:
    return next((folder / "work" / "datasets").glob(f"*/{split}/shard-00000/tokens.bin"))


def test_an_altered_shard(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "runs")
    whole = cli("train", "r.yaml", "--run", "whole", sets=SMALL)
    assert whole.code == 0
    shutil.rmtree(trained / "work")
    cli("prepare", "r.yaml", sets=SMALL)  # here the dataset's files are links to the results of tasks
    flip(shard_of(trained))
    remedy = cli("train", "r.yaml", sets=SMALL).expect_fault(3, "train/shard-00000/tokens.bin is not what was written")
    # What the remedy says must help, though the dataset's files are links to the results of tasks.
    shutil.rmtree(trained / remedy.split("remove ")[1].split(" and run")[0])
    assert cli("train", "r.yaml", sets=SMALL).code == 0
    assert hashes(trained / "runs" / "small" / "final") == hashes(trained / "whole" / "final")


def test_an_altered_shard_of_validation(trained: Path, cli: Cli) -> None:
    flip(shard_of(trained, "validation"), 100)
    cli("evaluate", "runs/small").expect_fault(3, "validation/shard-00000/tokens.bin is not what was written")


def test_a_truncated_shard(trained: Path, cli: Cli) -> None:
    for split in ("train", "validation"):
        path = shard_of(trained, split)
        path.write_bytes(path.read_bytes()[:-2])
    cli("evaluate", "runs/small").expect_fault(3, "tokens.bin is ", "its manifest says")
    shutil.copytree(trained / "runs" / "small", trained / "before")
    assert cli("train", "r.yaml", "--run", "again", sets=SMALL).code == 0, "what is derived is made again"
    assert cli("evaluate", "runs/small").code == 0
    assert hashes(trained / "again" / "final") == hashes(trained / "before" / "final")


def test_another_tokenizer_in_the_dataset(trained: Path, cli: Cli) -> None:
    cli("prepare", "r.yaml", "--workspace", "char", sets=CHAR)
    dataset = next((trained / "work" / "datasets").iterdir())
    other = next((trained / "char" / "datasets").iterdir())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (dataset / "tokenizer" / name).unlink()
        shutil.copy(other / "tokenizer" / name, dataset / "tokenizer" / name)
    cli("evaluate", "runs/small").expect_fault(3, "tokenizer", "manifest says")
    assert cli("train", "r.yaml", "--run", "again", sets=SMALL).code == 0
    assert hashes(trained / "again" / "final") == hashes(trained / "runs" / "small" / "final")


def test_an_altered_tokenizer_in_the_dataset(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "work")
    cli("prepare", "r.yaml", sets=SMALL)  # here the dataset's files are links to the results of tasks
    path = next((trained / "work" / "datasets").glob("*/tokenizer/tokenizer.json"))
    text = path.read_text()
    altered = text.replace('"A": 65', '"A": 66', 1)
    assert altered != text
    path.write_text(altered)
    message = cli("train", "r.yaml", "--run", "again", sets=SMALL).expect_fault(
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
    facts = read_manifest(dataset)
    shutil.rmtree(dataset / "train")
    shutil.copytree(other / "train", dataset / "train")
    write_manifest(dataset, facts)
    cli("train", "r.yaml", "--run", "x", sets=SMALL).expect_fault(
        3, "was made by another tokenizer", "257", "remove work/"
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"])
def test_what_a_run_says_of_its_checkpoints(trained: Path, cli: Cli, name: str) -> None:
    """Its configuration and tokenizer lie beside them: any byte of these is noticed, by whatever loads a checkpoint."""
    run = trained / "runs" / "small"
    path, remedy = run / name, "type the command that trained it"
    whole, right = path.read_bytes(), cli("evaluate", "runs/small", "--checkpoint", "latest", "--json").json()
    for place in (0, len(whole) // 3, len(whole) // 2, -1):
        flip(path, place)
        with pytest.raises(IntegrityError, match=rf"{name} is not what was written") as caught:
            load(run, "latest")
        assert remedy in caught.value.remedy
        path.write_bytes(whole)
    if name == "config.json":
        path.write_bytes(whole.replace(b'"norm_eps": 1e-05', b'"norm_eps": 1e-04'))
        assert path.read_bytes() != whole
    else:
        path.unlink()
    for words in (
        ("evaluate", "runs/small", "--checkpoint", "latest"),
        ("evaluate", "runs/small/checkpoints/step-00000008"),
        ("generate", "runs/small", "--checkpoint", "best"),
        ("export", "runs/small", "--to", "hf", "--out", "out", "--checkpoint", "8"),
    ):
        assert remedy in cli(*words).expect_fault(3, name)
    assert cli("train", "r.yaml", sets=SMALL).code == 0 and path.read_bytes() == whole
    assert cli("evaluate", "runs/small", "--checkpoint", "latest", "--json").json() == right


def test_the_hashes_of_what_a_run_says_of_its_checkpoints(trained: Path, cli: Cli) -> None:
    sealed = trained / "runs" / "small" / "identity.json"
    flip(sealed, len(sealed.read_bytes()) // 2)
    assert "type the command" in cli("evaluate", "runs/small", "--checkpoint", "latest").expect_fault(
        3, "identity.json is"
    )
    sealed.unlink()  # a run of an earlier tilth
    assert cli("evaluate", "runs/small", "--checkpoint", "latest").code == 0
    assert cli("train", "r.yaml", sets=SMALL).code == 0 and sealed.exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "flip"),
        ("optimizer.safetensors", "gone"),
        ("state.json", "flip"),
        ("state.json", "cut"),
        ("manifest.json", "flip"),
        ("manifest.json", "gone"),
    ],
)
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


def test_where_no_checkpoint_verifies_nothing_is_trained_anew(trained: Path, cli: Cli) -> None:
    run = trained / "runs" / "small"
    for path in (run / "checkpoints").glob("step-*/model.safetensors"):
        flip(path, 200)
    before = hashes(run)
    for sets in (SMALL, [*SMALL, "train.steps=14"]):
        cli("train", "r.yaml", sets=sets).expect_fault(4, "checkpoints verifies: ", "step-00000012 is damaged", "--run")
    assert hashes(run) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_an_altered_final_model(trained: Path, cli: Cli, name: str) -> None:
    flip(trained / "runs" / "small" / "final" / name, 40)
    for job in ("generate", "evaluate"):
        for path in ("runs/small", "runs/small/final"):
            cli(job, path).expect_fault(4, f"runs/small/final/{name}", "--checkpoint latest")
        assert cli(job, "runs/small", "--checkpoint", "latest").code == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_a_final_model_that_lacks_a_file(trained: Path, cli: Cli, name: str) -> None:
    (trained / "runs" / "small" / "final" / name).unlink()
    cli("generate", "runs/small").expect_fault(4, name, "--checkpoint latest")


def test_the_remedy_for_an_altered_final_model_is_to_train_again(trained: Path, cli: Cli) -> None:
    before = hashes(trained / "runs" / "small" / "final")
    flip(trained / "runs" / "small" / "final" / "model.safetensors", 400)
    assert cli("train", "r.yaml", sets=SMALL).code == 0
    assert hashes(trained / "runs" / "small" / "final") == before


@pytest.mark.parametrize("claim", [{"hidden_size": 10**7}, {"num_hidden_layers": 10**9}, {"vocab_size": 10**12}])
def test_a_configuration_that_claims_another_size_allocates_nothing(trained: Path, claim: dict[str, int]) -> None:
    final = trained / "runs" / "small" / "final"
    path = final / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **claim}))
    write_manifest(final)
    with pytest.raises(CheckpointError, match=r"the configuration beside .* and the file holds"):
        load(final)


def dataset_of(folder: Path) -> Path:
    return next((folder / "work" / "datasets").iterdir())


@pytest.mark.parametrize("kind", ["ledger", "documents", "index", "examples"])
def test_nothing_is_told_from_an_altered_file_of_the_dataset(trained: Path, cli: Cli, kind: str) -> None:
    file = sorted(path for path in (dataset_of(trained) / kind).rglob("*.parquet") if path.stat().st_size > 500)[0]
    cli("prepare", "r.yaml", sets=SMALL)
    place = file.stat().st_size // 3
    flip(file, place)
    name = file.relative_to(dataset_of(trained)).as_posix()
    for words in (["report", "small"], ["trace", "small", "--doc", "0001.txt"], ["trace", "runs/small", "--step", "3"]):
        said = cli(*words)
        said.expect_fault(3, f"{name} is not what was written", "`tilth prepare RECIPE --verify`")
        assert said.out == ""
    again = cli("prepare", "r.yaml", "--verify", sets=SMALL)
    assert again.code == 0 and f"{name} is not what was written" in again.err and "made again" in again.err
    assert cli("report", "small").code == 0
    assert cli("trace", "runs/small", "--step", "3").code == 0


def test_what_a_killed_run_left_is_removed_and_said(trained: Path, cli: Cli) -> None:
    half = trained / "work" / "tasks" / ".clean-0123456789abcdef0123.7-0a1b2c3d.tmp"
    half.mkdir()
    (half / "edits.parquet").write_bytes(b"half")
    said = cli("prepare", "r.yaml", sets=SMALL)
    assert said.code == 0 and not half.exists()
    assert "removed 1 half-made result (4 bytes) that a stopped run left in tasks" in said.err
    assert "half-made" not in cli("prepare", "r.yaml", sets=SMALL).err


def test_a_damaged_result_is_not_gathered_into_a_new_dataset(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "work")
    cli("prepare", "r.yaml", sets=SMALL)
    whole = hashes(dataset_of(trained))
    flip(next((dataset_of(trained) / "ledger").glob("deduplicate-*.parquet")), 100)  # a link to a task's result
    shutil.rmtree(dataset_of(trained))
    said = cli("prepare", "r.yaml", sets=SMALL)
    assert said.code == 0 and "/ledger.parquet is not what was written" in said.err and "made again" in said.err
    assert hashes(dataset_of(trained)) == whole


def test_a_cut_of_the_split_that_was_altered_cuts_nothing(trained: Path, cli: Cli) -> None:
    sets = [*SMALL, "data.split={by: tail, validation: 0.1}"]
    cli("prepare", "r.yaml", sets=sets)
    whole = cli("prepare", "r.yaml", "--json", sets=sets).json()
    for encoded in (trained / "work" / "tasks").glob("encode-*"):
        shutil.rmtree(encoded)
    for cuts in (trained / "work" / "tasks").glob("*/cuts.json"):
        cuts.write_text(cuts.read_text().replace("1", "2"))
    cli("prepare", "r.yaml", sets=sets).expect_fault(3, "cuts.json is not what was written")
    assert cli("prepare", "r.yaml", "--verify", "--json", sets=sets).json() == whole


def test_texts_are_not_told_from_an_altered_task(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "work")
    (trained / "texts" / "0001.txt").write_text("A line with white space at its end.   \n" * 3)
    cli("prepare", "r.yaml", sets=SMALL)
    traced = cli("trace", "small", "--doc", "texts/0001.txt", "--json").json()
    assert traced["texts_from"] == "tasks" and traced["texts_missed"] == ""
    collected = next((trained / "work" / "tasks").glob("collect-*/part-00000.parquet"))
    flip(collected, collected.stat().st_size // 2)
    said = cli("trace", "small", "--doc", "texts/0001.txt", "--json")
    assert said.json()["texts_from"] == "examples" and "part-00000.parquet is not what" in said.json()["texts_missed"]
    assert "part-00000.parquet is not what was written" in said.out.replace("\n", "")
