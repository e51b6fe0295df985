"""What scripts may rely on: the JSON on the last line, the files of a run, the options, and the Python API."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import tilth
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, command, environment, hashes, last_json, write_recipe, write_texts
from tests.jobs.helpers import tilth as run_tilth
from tilth.core.files import read_manifest, verify_manifest
from tilth.core.rundir import RunFolder
from tilth.data.dataset import open_dataset
from tilth.jobs.new_recipe import SHIPPED
from tilth.jobs.recipe import load_recipe, shipped_recipe, shipped_recipes

pytestmark = pytest.mark.slow

PREPARED = {"documents", "dropped", "passed_over", "evaluation_files", "tokens", "folder"}
TRAINED = {
    "run",
    "step",
    "tokens",
    "train_loss",
    "validation_loss",
    "seconds",
    "stopped_by",
    "checkpoint",
    "forecast",
    "new_steps",
}
EVALUATED = {"loss", "perplexity", "bits_per_byte", "accuracy", "tokens"}
STEP = {
    "step",
    "tokens",
    "loss",
    "grad_norm",
    "lr",
    "seconds",
    "data_wait_seconds",
    "tokens_per_second",
    "mfu",
    "memory_bytes",
    "skipped",
    "first_sample",
    "last_sample",
}


# JSON


def test_prepare_prints_what_the_dataset_says(trained: Path, cli: Cli) -> None:
    printed = cli("prepare", "r.yaml", "--json", sets=SMALL).json()
    assert printed.keys() == PREPARED
    dataset = open_dataset(trained / printed["folder"])
    assert printed["tokens"] == {split: dataset.stream(split).tokens for split in ("train", "validation")}
    assert printed["documents"] == sum(dataset.stream(split).documents for split in ("train", "validation")) == 120
    assert printed["dropped"] == {"deduplicate/exact_duplicate": 1}
    # Bytes are tokens here, and each document ends with one more.
    texts = [path.read_bytes() for path in (trained / "texts").iterdir() if path.name != "copy.txt"]
    assert sum(printed["tokens"].values()) == sum(map(len, texts)) + len(texts)


def test_train_prints_what_the_records_say(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts")
    printed = cli("train", "r.yaml", "--json", sets=SMALL).json()
    folder = RunFolder(tmp_path / "runs" / "small")
    steps = folder.steps()
    assert printed.keys() == TRAINED
    assert (printed["run"], printed["step"], printed["stopped_by"]) == ("runs/small", 12, "steps")
    assert printed["tokens"] == 12 * 256 == steps[-1].tokens
    assert printed["train_loss"] == steps[-1].loss
    assert printed["validation_loss"] == folder.events("evaluation")[-1]["metrics"]["loss"]
    assert 0 < sum(step.seconds for step in steps) <= printed["seconds"] + 0.01
    assert printed["checkpoint"] == "runs/small/checkpoints/step-00000012"
    verify_manifest(tmp_path / printed["checkpoint"])


def test_without_validation_there_is_no_validation_loss(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts", data={"split": {"validation": 0}})
    printed = cli("train", "r.yaml", "--json", sets=SMALL).json()
    assert printed.keys() == TRAINED and printed["validation_loss"] is None
    cli("evaluate", "runs/small").expect_fault(3, "no validation split", "--data FILE")


def test_evaluate_prints_the_figures_of_the_final_model(trained: Path, cli: Cli) -> None:
    printed = cli("evaluate", "runs/small", "--json").json()
    assert printed.keys() == EVALUATED
    record = RunFolder(trained / "runs" / "small").events("evaluation")[-1]["metrics"]
    assert printed["loss"] == pytest.approx(record["loss"], abs=1e-6)
    assert printed["tokens"] == record["tokens"] == read_manifest(dataset_of(trained))["splits"]["validation"]["tokens"]
    assert printed["perplexity"] == pytest.approx(math.exp(printed["loss"]))
    assert 0 <= printed["accuracy"] <= 1


def dataset_of(folder: Path) -> Path:
    return next((folder / "work" / "datasets").iterdir())


def test_evaluate_takes_a_file_a_folder_or_a_glob(trained: Path, cli: Cli) -> None:
    (trained / "copy").mkdir()
    text = "soil and seed under deep green rain.\n"
    for name in ("a.txt", "b.txt"):
        (trained / "copy" / name).write_text(text)
    one = cli("evaluate", "runs/small", "--data", "copy/a.txt", "--json").json()
    assert one["tokens"] == len(text) + 1
    for place in ("copy", "copy/*.txt"):
        assert cli("evaluate", "runs/small", "--data", place, "--json").json()["tokens"] == 2 * one["tokens"]
    assert one["bits_per_byte"] == pytest.approx(one["loss"] * one["tokens"] / math.log(2) / len(text))


def test_every_checkpoint_can_be_asked_for(trained: Path, cli: Cli) -> None:
    losses = {
        which: cli("evaluate", "runs/small", "--checkpoint", which, "--json").json()["loss"]
        for which in ("final", "latest", "best", "4", "8", "12")
    }
    assert losses["final"] == losses["latest"] == losses["best"] == losses["12"] < losses["8"] < losses["4"]
    path = "runs/small/checkpoints/step-00000004"
    assert cli("evaluate", path, "--json").json()["loss"] == losses["4"], "its folder names it too"


# Files


def test_the_final_folder_is_whole_in_itself(trained: Path, cli: Cli) -> None:
    final = trained / "runs" / "small" / "final"
    names = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
    assert {path.name for path in final.iterdir()} == names
    verify_manifest(final)
    tensors = load_file(final / "model.safetensors")
    config = json.loads((final / "config.json").read_text())
    assert tensors["embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"]) == (257, 32)
    checkpoint = load_file(trained / "runs/small/checkpoints/step-00000012/model.safetensors")
    assert tensors.keys() == checkpoint.keys()
    assert all(torch.equal(tensors[name], checkpoint[name]) for name in tensors)
    shutil.copytree(final, trained / "elsewhere")
    shutil.rmtree(trained / "runs")
    assert cli("generate", "elsewhere", "--max-new-tokens", "5").code == 0


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_transformers_reads_the_tokenizer_and_gives_the_same_ids(tmp_path: Path, cli: Cli, kind: str) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts")
    sets = [
        *SMALL,
        "train.steps=1",
        "tokenizer={kind: bpe, vocab_size: 300}" if kind == "bpe" else f"tokenizer={{kind: {kind}}}",
    ]
    assert cli("train", "r.yaml", sets=sets).code == 0
    final = tmp_path / "runs" / "small" / "final"
    theirs = transformers.AutoTokenizer.from_pretrained(final)
    ours = tilth.load(final).tokenizer
    text = (tmp_path / "texts" / "0001.txt").read_text() + "  \n\n the wind."
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text
    assert theirs.eos_token_id == ours.end_of_text and len(theirs) == ours.vocab_size


def test_the_records_of_steps(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "runs/small/steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    for number, line in enumerate(lines):
        assert line.keys() == STEP
        assert (line["first_sample"], line["last_sample"]) == (number * 16, number * 16 + 15)
        assert line["tokens"] == (number + 1) * 256
        assert line["loss"] > 0 and line["grad_norm"] > 0 and line["memory_bytes"] > 1 << 20
        assert line["mfu"] is None, "no peak is known here, and none is guessed"
    # nanoGPT's schedule, written out: a warm-up over 2 steps, then the cosine from 1 to 0.1 over the 10 that are left.
    for step, line in enumerate(lines):
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 10))
        assert line["lr"] == pytest.approx(1e-3 * ((step + 1) / 3 if step < 2 else cosine))


# Options


def test_sets_take_yaml_lists(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=3)
    (tmp_path / "text.txt").write_text((tmp_path / "texts" / "0001.txt").read_text())
    write_recipe(tmp_path / "r.yaml", "nowhere")
    sets = [*SMALL, "data.sources=[{path: text.txt}]", "data.split.validation=0"]
    said = cli("prepare", "r.yaml", "--json", sets=sets)
    assert said.json()["documents"] == 1
    again = cli("prepare", "r.yaml", "--json", sets=[*SMALL, "data.sources.0.path=text.txt", "data.split.validation=0"])
    assert again.out == said.out


def test_run_and_workspace_and_workers_say_where_and_how(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts", data={"shard_bytes": 65536})
    options = ("--run", "here/run", "--workspace", "there/space")
    printed = cli("train", "r.yaml", *options, "--workers", "1", "--json", sets=SMALL).json()
    assert printed["run"] == "here/run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "r.yaml", "texts", "there"]
    dataset = next((tmp_path / "there" / "space" / "datasets").iterdir())
    other = cli("prepare", "r.yaml", "--workspace", "other", "--workers", "2", "--json", sets=SMALL).json()
    assert hashes(dataset) == hashes(tmp_path / other["folder"])


def test_run_again_is_done_and_changes_nothing(trained: Path, cli: Cli) -> None:
    before = hashes(trained)
    result = json.loads((trained / "runs/small/result.json").read_text())
    said = cli("train", "r.yaml", "--json", sets=SMALL)
    assert "done: the run ended at step 12 (train.steps)" in said.err
    assert {k: v for k, v in result.items() if k in TRAINED} | {"new_steps": 0} == said.json()
    after = hashes(trained)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    told = {"runs/small/events.jsonl", "runs/small/data.json"}
    changed = {name for name in changed if not name.startswith("work/listings/")}  # hashes of files, remembered
    assert changed <= told, "but for the note that it was asked, and where this copy of the data lies"


def test_run_again_with_more_steps_goes_on(trained: Path, cli: Cli) -> None:
    sets = [*SMALL, "train.steps=20"]
    said = cli("train", "r.yaml", "--json", sets=sets)
    assert said.json()["step"] == 20
    assert "the recipe changed: train.steps: 12 -> 20" in said.err and "going on after step 12" in said.err
    folder = RunFolder(trained / "runs" / "small")
    assert [record.step for record in folder.steps()] == list(range(1, 21))
    assert folder.recipe()["train"]["steps"] == 20
    final = load_file(folder.final / "model.safetensors")
    last = load_file(folder.checkpoints / "step-00000020" / "model.safetensors")
    assert all(torch.equal(final[name], last[name]) for name in last)


def test_init_writes_a_recipe_that_loads_and_overwrites_nothing(tmp_path: Path, cli: Cli) -> None:
    for template in ("pretrain", "char", "mlm", "finetune", "lora", "instruct"):
        path = tmp_path / f"{template}.yaml"
        said = cli("init", path.name, "--template", template)
        assert said.code == 0 and f"tilth train {template}.yaml" in said.out
        assert ("model.from" in said.out) == (load_recipe(path).model.from_ is not None)
        recipe, text = load_recipe(path), path.read_text()
        assert recipe.name == template and not re.search(rf"runs/(?!my-text|RUN|{template}\b)", text)
        assert text.count("#") == shipped_recipe(SHIPPED[template]).count("#"), "comments stay"
        assert ("name your" in said.out) == (template != "mlm") and "akespeare.txt" not in str(recipe.data.sources)
        path.write_text("mine")
        cli("init", path.name, "--template", template).expect_fault(2, f"{template}.yaml exists", "another file")
        assert path.read_text() == "mine"
    assert "(the folder below/it is new)" in cli("init", "below/it/goes.yaml").out
    assert "is new" not in cli("init", "below/it/too.yaml").out
    names = {
        "1e3": "1e3",
        "my lora (2)": "my-lora-2",
        "recipe": "recipe",
        "null": "null",
        "été": "ete",
        "(_)": "my-text",
    }
    for stem, name in names.items():
        assert cli("init", f"{stem}.yaml").code == 0 and load_recipe(tmp_path / f"{stem}.yaml").name == name
    odd = ("текст", "книга", "текст 1", "книга 1", "文")
    assert all(cli("init", f"{stem}.yaml").code == 0 for stem in odd)
    called = [load_recipe(tmp_path / f"{stem}.yaml").name for stem in odd]
    assert len({*called, *names.values()}) == len(odd) + len(names) and re.fullmatch(r"my-text-[0-9a-f]{6}", called[0])
    assert f"runs/{called[0]}\n" in (tmp_path / "текст.yaml").read_text()
    assert cli("init", "x.yaml", "--template", "nonsense").code == 2


def test_the_schema_knows_every_key_of_every_recipe(cli: Cli) -> None:
    schema = json.loads(cli("schema").out)
    assert schema["type"] == "object" and schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "data", "train"}
    for name in shipped_recipes():
        recipe = load_recipe(Path(tilth.__file__).parent / "recipes" / f"{name}.yaml")
        assert unknown_keys(recipe.plain(), schema, schema["$defs"]) == []
    assert unknown_keys({"train": {"stepps": 1}}, schema, schema["$defs"]) == ["stepps"], "the check can fail"
    names = {part["$ref"].rsplit("/", 1)[1] for part in nodes(schema) if "$ref" in part}
    assert names <= schema["$defs"].keys()


def nodes(value: Any) -> list[dict[str, Any]]:
    """All mappings in a schema."""
    if isinstance(value, list):
        return [node for item in value for node in nodes(item)]
    return [value, *nodes(list(value.values()))] if isinstance(value, dict) else []


def unknown_keys(value: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """Keys of `value` for which the schema has no property."""
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rsplit("/", 1)[1]]}
    options = schema.get("anyOf", [schema])
    properties = next(
        (found for option in options if (found := resolved(option, definitions).get("properties")) is not None), None
    )
    if properties is None:
        return []
    missing = [key for key in value if key not in properties]
    below = [
        name
        for key, inner in value.items()
        if isinstance(inner, dict) and key in properties
        for name in unknown_keys(inner, properties[key], definitions)
    ]
    return missing + below


def resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return found


# Generation


def test_generate_gives_the_same_text_for_the_same_seed(trained: Path, cli: Cli) -> None:
    def text(*options: str) -> str:
        said = cli("generate", "runs/small", "--prompt", "the ", "--max-new-tokens", "40", *options)
        assert said.code == 0 and said.out.startswith("the "), said.err
        return said.out

    assert text() == text("--seed", "1") != text("--seed", "2")
    assert text("--temperature", "0") == text("--temperature", "0", "--seed", "5") == text("--top-k", "1")
    assert text("--temperature", "0") == text("--top-p", "1e-9")


def test_generate_writes_several_samples(trained: Path, cli: Cli) -> None:
    options = ("generate", "runs/small", "--prompt", "a", "--max-new-tokens", "20", "--top-k", "30")
    said = cli(*options, "--samples", "3")
    parts = said.out.split("--- ")
    assert [part.split("\n")[0] for part in parts[1:]] == ["1 of 3", "2 of 3", "3 of 3"]
    one = cli(*options).out
    assert parts[1] == f"1 of 3\n{one}", "the first of three is what one alone would be"
    assert len({part.split("\n", 1)[1] for part in parts[1:]}) == 3


def test_generate_stops_before_a_stop_string(trained: Path, cli: Cli) -> None:
    options = ("generate", "runs/small", "--temperature", "0", "--max-new-tokens", "30", "--prompt", "the")
    whole = cli(*options).out.removesuffix("\n")
    written = whole.removeprefix("the")
    stop = written[10:13]
    said = cli(*options, "--stop", "never in it", "--stop", stop)
    assert said.out == "the" + written[: written.index(stop)] + "\n"


@pytest.mark.slow
def test_generate_into_a_pipe_that_closes_early(trained: Path) -> None:
    words = command("generate", "runs/small", "--max-new-tokens", "4000", "--temperature", "1")
    process = subprocess.Popen(
        words, cwd=trained, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert len(process.stdout.read(5)) == 5
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=60) == 0 and said == ""
    process.stderr.close()


# The command itself, and the Python API


@pytest.mark.slow
def test_the_real_command_prints_json_last_and_reports_on_standard_error(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=30)
    recipe = write_recipe(tmp_path / "r.yaml", "texts")
    done = run_tilth("train", recipe, "--json", cwd=tmp_path, sets=SMALL)
    assert last_json(done).keys() == TRAINED
    assert "step 12" in done.stderr and "step 1/12" not in done.stdout
    done = run_tilth("evaluate", "runs/small", "--json", cwd=tmp_path)
    assert last_json(done).keys() == EVALUATED
    script = Path(sys.executable).with_name("tilth")
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout.startswith("tilth ")


def test_the_python_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts")
    monkeypatch.chdir(tmp_path)
    recipe = tilth.load_recipe(Path("r.yaml"), SMALL)
    dataset = tilth.prepare(recipe)
    events: list[object] = []
    result = tilth.train(recipe, emit=events.append)
    metrics = tilth.evaluate(result["run"])
    model = tilth.load(result["run"])
    text = model.generate("the soil", max_new_tokens=20, temperature=0)
    assert result.keys() == TRAINED and len(events) > 12
    assert dataset.stream("validation").tokens == metrics.tokens
    assert metrics.loss == pytest.approx(result["validation_loss"], abs=1e-6)
    ids = model.tokenizer.encode("the soil")
    logits = model.logits(ids)
    assert logits.shape == (len(ids), 257) and logits.dtype == np.float32
    first = model.tokenizer.decode([int(logits[-1].argmax())])
    assert text.startswith(first) or first == "\ufffd"
    assert model.generate("the soil", max_new_tokens=20, temperature=0) == text
    with pytest.raises(tilth.TilthError, match="17 ids; the model takes 1 to 16"):
        model.logits([1] * 17)
    with pytest.raises(tilth.TilthError, match=r"300 .*no token id"):
        model.logits([300])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]
