"""Recipes and command lines that cannot be meant, folders that may not be used: told with a remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, command, environment, write_recipe, write_texts
from tilth.core.errors import RecipeError
from tilth.data.dataset import open_dataset
from tilth.distributed.runtime import Runtime
from tilth.jobs.batches import make_loader
from tilth.jobs.recipe import load_recipe

PYTHON = sys.executable
CHAR = [*SMALL[:-1], "tokenizer={kind: char}"]


@pytest.mark.parametrize(
    ("sets", "parts"),
    [
        (["train.step=5"], ("train.step: unknown key", "its value is 5", "did you mean `steps`?")),
        (["train.steps=many"], ("train.steps: 'many' (a text) is not valid",)),
        (["train.steps=0"], ("train.steps: 0 (an integer) is not valid", "at least 1", "from --set train.steps")),
        (["train.optimizer.lr=.inf"], ("train.optimizer.lr: inf", "finite")),
        (["train.optimizer.lr=.nan"], ("train.optimizer.lr: nan",)),
        (["train.optimizer=2024-01-01"], ("train.optimizer: ", "2024")),
        (["model.hiden_size=8"], ("model.hiden_size: unknown key", "did you mean `hidden_size`?")),
        (
            ["model.hidden_size=30", "model.num_attention_heads=4"],
            ("hidden_size 30 is not a multiple", "set hidden_size to 28 or 32"),
        ),
        (["model.preset=gpt3"], ("there is no preset 'gpt3'", "did you mean 'gpt2'?")),
        (["data.sources=[]"], ("data.sources", "a list with at least 1 item")),
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
        cli(job, "r.yaml", sets=sets).expect_fault(2, *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml", "texts"], "nothing was made"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a: [1\nb: 2\n", ("r.yaml, line 2", "not YAML", "tilth init")),
        ("- a\n- b\n", ("r.yaml holds a list, not keys and values",)),
        ("just words", ("r.yaml holds a str",)),
        ("", ("data: missing", "train: missing", "add `name:`")),
        ("name: 2024\n", ("name: 2024 (an integer)",)),
        ("name: [" + "[" * 5000, ("nested too deeply",)),
        ("? [a]\n: b\n", ("not YAML",)),
        ("&a [*a]\n", ("r.yaml holds a list",)),
        ("name: &a\n  x: *a\n", ("name: ",)),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, cli: Cli, content: str, parts: tuple[str, ...]) -> None:
    (tmp_path / "r.yaml").write_text(content)
    cli("train", "r.yaml").expect_fault(2, *parts)


def test_a_folder_is_no_recipe_and_that_of_a_run_has_one(trained: Path, cli: Cli) -> None:
    message = cli("train", "runs/small").expect_fault(
        2, "runs/small is a folder, not a recipe", "name runs/small/recipe.json"
    )
    assert "Errno" not in message
    assert cli("check", "runs/small/recipe.json").code == 0
    cli("train", "texts").expect_fault(2, "texts is a folder, not a recipe", "name the file in it")


def test_a_recipe_that_is_missing_or_no_text(tmp_path: Path, cli: Cli) -> None:
    cli("train", "r.yaml").expect_fault(2, "no recipe at r.yaml", "tilth init")
    cli("train", ".").expect_fault(2, ". is a folder, not a recipe")
    (tmp_path / "r.yaml").write_bytes(b"name: caf\xe9\n")
    cli("train", "r.yaml").expect_fault(2, "r.yaml, line 1: byte 0xe9 is not UTF-8", "save the recipe as UTF-8")


@pytest.mark.parametrize("name", ["check", "prepare", "train"])
def test_a_mistyped_name_is_answered_before_torch_is_imported(tmp_path: Path, name: str) -> None:
    words = [PYTHON, "-X", "importtime", "-m", "tilth", name, "nothing.yaml"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no recipe at nothing.yaml" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tilth.jobs.recipe" in imported and not imported & {"torch", "tilth.jobs.prepare"}


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
    cli("train", "r.yaml", sets=sets).expect_fault(2, "model.vocab_size", "60", "leave model.vocab_size out")
    assert not (tmp_path / "runs" / "small" / "recipe.json").exists()


@pytest.mark.slow
def test_a_vocabulary_larger_than_the_tokenizers_is_padding(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=8)
    write_recipe(tmp_path / "r.yaml", "texts", sample={"temperature": 5.0, "max_new_tokens": 200})
    sets = [*SMALL, "model.vocab_size=5000"]
    assert cli("train", "r.yaml", "--json", sets=sets).json()["step"] == 12
    assert cli("generate", "runs/small", "--temperature", "5").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "processes", "parts"),
    [
        (["train.batch_tokens=32"], 3, ("2 rows of 16 tokens, fewer than the 3 processes", "start 2 processes", "48")),
        (["train.batch_tokens=16"], 2, ("1 row of 16 tokens", "start 1 process at most", "train.batch_tokens to 32")),
        (
            ["train.batch_tokens=all", "train.optimizer.name=gd"],
            10**6,
            ("train.batch_tokens all gives", "processes at most, or give more text"),
        ),
    ],
)
def test_fewer_rows_than_processes(trained: Path, batch: list[str], processes: int, parts: tuple[str, ...]) -> None:
    recipe = load_recipe(trained / "r.yaml", [*SMALL, *batch])
    dataset = open_dataset(next((trained / "work" / "datasets").iterdir()))
    with pytest.raises(RecipeError) as caught:
        make_loader(recipe, dataset, Runtime(torch.device("cpu"), 0, processes))
    assert all(part in str(caught.value) for part in parts)


def test_places_that_cannot_be_written(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    (tmp_path / "file").touch()
    for place, reason, remedy in (
        ("file", "it is a file, not a folder", "name a folder, or move that file away"),
        ("file/below", "file is a file, not a folder", "name a folder, or move that file away"),
        ("x" * 300, "File name too long", "choose another folder"),
    ):
        told = f"cannot write {place}: {reason}"
        for said in (
            cli("prepare", "r.yaml", "--workspace", place).expect_fault(3, told, remedy),
            cli("train", "r.yaml", "--run", place, sets=SMALL).expect_fault(3, told, remedy),
            cli("train", "r.yaml", "--workspace", place, sets=SMALL).expect_fault(3, told, remedy),
        ):
            assert "GiB free" not in said and "make room" not in said


def test_a_folder_that_may_not_be_written_and_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    nobody = 65534 if os.geteuid() == 0 else None  # root is refused nothing
    try:
        subprocess.run([PYTHON, "-c", "import tilth"], user=nobody, capture_output=True, cwd="/", check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("this Python cannot be run by anybody but root")

    def prepare(workspace: Path) -> Said:
        words = command("prepare", tmp_path / "r.yaml", "--workspace", workspace)
        done = subprocess.run(words, cwd=tmp_path, env=environment(), user=nobody, capture_output=True, text=True)
        return Said(done.returncode, done.stdout, done.stderr)

    (tmp_path / "shut").mkdir()
    (tmp_path / "shut").chmod(0o555)
    prepare(tmp_path / "shut" / "work").expect_fault(
        3, f"cannot write {tmp_path}/shut", "Permission denied\n", "writable"
    )
    prepare(tmp_path / "shut" / "deep" / "work").expect_fault(
        3, f"cannot write {tmp_path}/shut/deep: Permission denied"
    )
    (tmp_path / "texts" / "0001.txt").chmod(0)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    prepare(tmp_path / "open" / "work").expect_fault(3, "0001.txt", "Permission denied", "the right to read it")


def test_options_of_generate_that_cannot_be_meant(trained: Path, cli: Cli) -> None:
    cli("generate", "runs/small", "--top-p", "1.5").expect_fault(2, "top_p: 1.5")
    cli("generate", "runs/small", "--stop", "").expect_fault(2, "stop", "empty")
    assert cli("generate", "runs/small", "--samples", "0").code == 2
    assert cli("generate", "runs/small", "--temperature=-1").code == 2


def test_text_for_evaluation_that_is_not_there(trained: Path, cli: Cli) -> None:
    (trained / "none.txt").touch()
    cli("evaluate", "runs/small", "--data", "nowhere.txt").expect_fault(3, "there is nothing at nowhere.txt")
    cli("evaluate", "runs/small", "--data", "none.txt").expect_fault(
        3, "none.txt holds no text to evaluate", "with text in it"
    )
    (trained / "tiny.txt").write_text("Hello world.\n")
    limit = "name a file whose text passes the data.clean of the run: min_length (characters: 16)"
    cli("evaluate", "runs/small", "--data", "tiny.txt").expect_fault(3, "dropped by clean/min_length: 1", limit)
    assert cli("train", "r.yaml", sets=SMALL).code == 0  # the run is of the dataset that lies here
    shutil.rmtree(trained / "work")
    cli("evaluate", "runs/small").expect_fault(3, "no dataset at ", "work/datasets/small-", "tilth prepare")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("data.sources=[{path:", "other.txt}]"), "--set 'data.sources=[{path: other.txt}]'"),
        (("train.steps", "200"), "--set train.steps=200"),
        (("train.steps:", "200"), "--set train.steps=200"),
        (("train.steps=5", "train.seed=2"), "--set train.steps=5 --set train.seed=2"),
    ],
)
def test_a_value_that_the_shell_took_apart_is_put_together(cli: Cli, words: tuple[str, ...], meant: str) -> None:
    said = cli("train", "r.yaml", "--set", *words)
    assert said.code == 2 and said.err.endswith(f"\n  remedy: write {meant}\n")
    assert "remedy" not in cli("train", "--set", "train.steps=5", "r.yaml", "--wrokers", "2").err
    assert "remedy" not in cli("train", "r.yaml", "--set", "train.steps=5", "b.yaml").err


def test_an_amount_that_stands_apart_from_its_unit_is_put_together(cli: Cli) -> None:
    said = cli("check", "r.yaml", "--fit", "24", "GiB")
    assert said.code == 2 and said.err.endswith("\n  remedy: write --fit 24GiB\n")
    assert "remedy" not in cli("check", "r.yaml", "--fit", "24", "more").err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--steps 5", "--set train.steps=5"),
        ("--learning-rate=1e-3 --workers 2", "--set train.optimizer.lr=1e-3"),
        ("--batch_tokens", "--set train.batch_tokens=VALUE"),
        ("train.steps=5", "--set train.steps=5"),
        ("steps=5", "--set train.steps=5"),
        ("nothing=5", "--set nothing=5"),
        ("train.steps=5 --run a=b name=c", "--set train.steps=5 --set name=c"),
    ],
)
def test_a_key_in_the_place_of_an_option_is_told_as_one(cli: Cli, words: str, meant: str) -> None:
    said = cli("train", "r.yaml", *words.split())
    assert said.code == 2 and said.err.endswith(f"\n  remedy: write {meant}\n")
    assert "remedy" not in cli("chat", "runs/small", *words.split()).err, "it has no --set"
    assert "remedy" not in cli("train", "r.yaml", "--nothing-like-it", "3").err


def test_help_by_its_short_name(cli: Cli) -> None:
    for words in ([], ["train"], ["export"]):
        assert cli(*words, "-h") == cli(*words, "--help") and "--help" in cli(*words, "-h").out


def test_a_text_in_the_place_of_a_recipe_is_told_as_one(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("Some words. And: more: of them")
    cli("train", "a.txt").expect_fault(2, "a.txt", "looks like a text, not a recipe", "tilth init")
    (tmp_path / "b.md").write_text("Some words.")
    cli("train", "b.md").expect_fault(2, "b.md holds a str", "looks like a text, not a recipe")


def test_a_run_by_its_name_alone_is_found(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.json").write_text("{}")
    cli("evaluate", "mine").expect_fault(2, "no run folder or model at mine", "did you mean runs/mine?")


def test_what_other_programs_have_is_told_as_it_is_here(tmp_path: Path, cli: Cli) -> None:
    write_recipe(tmp_path / "r.yaml", "a.txt")
    said = cli("train", "r.yaml", "--resume")
    assert said.code == 2 and "the same command goes on where the run stopped" in said.err
    cli("generate", "gpt2").expect_fault(2, "a model of the hub is ORG/NAME, as openai-community/gpt2")
