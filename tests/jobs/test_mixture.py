"""A mixture through the command: shares of real sources, what is reported, what is refused before a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.data.dataset import open_dataset

MIXED = [*SMALL, "data.mixture={code: {weight: 0.25, max_epochs: null}}"]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts", documents=60)
    write_texts(tmp_path / "more", documents=20, seed=4)
    sources = [{"path": "texts", "name": "prose"}, {"path": "more", "name": "code"}]
    write_recipe(tmp_path / "r.yaml", "texts", data={"sources": sources, "shard_bytes": 1 << 16})
    return tmp_path


def test_shards_know_their_source(two: Path, cli: Cli) -> None:
    dataset = open_dataset(two / cli("prepare", "r.yaml", "--json", sets=SMALL).json()["folder"])
    assert [source["name"] for source in dataset.facts["shards_by_source"]] == ["prose", "code"]
    whole = dataset.stream("train")
    parts = [dataset.stream("train", [name]) for name in ("prose", "code")]
    assert [shard.manifest["source"] for shard in whole.shards] == ["prose"] * len(parts[0].shards) + ["code"]
    assert whole.tokens == sum(part.tokens for part in parts) == dataset.facts["splits"]["train"]["tokens"]
    for part, source in zip(parts, dataset.facts["shards_by_source"], strict=True):
        assert part.tokens == source["splits"]["train"]["tokens"] > 0


@pytest.mark.slow
def test_a_mixture_is_said_and_reported_and_decides_no_shard(two: Path, cli: Cli) -> None:
    before = cli("prepare", "r.yaml", "--json", sets=SMALL).json()["folder"]
    said = cli("train", "r.yaml", "--json", sets=MIXED)
    code, rest = said.json()["mixture"]
    assert (code["name"], code["share"], rest["name"], rest["share"]) == ("code", 0.25, "the other sources", 0.75)
    assert code["tokens"] + rest["tokens"] == said.json()["tokens"] == 12 * 256
    assert code["tokens"] == pytest.approx(0.25 * 12 * 256, abs=16)
    assert code["epochs"] == pytest.approx(code["tokens"] / code["held_tokens"], rel=0.01)
    assert "mixture: code 0.25 (" in said.err and f"epochs of {code['held_tokens']:,} tokens)" in said.err
    assert json.loads((two / "runs/small/data.json").read_text())["folder"] == str(two / before)
    report = (two / "runs/small/report.html").read_text()
    assert "From code" in report and "25.0%" in report


@pytest.mark.slow
def test_a_run_goes_on_with_its_mixture_and_with_no_other(two: Path, cli: Cli) -> None:
    whole = cli("train", "r.yaml", "--run", "whole", "--json", sets=[*MIXED, "train.steps=20"])
    cli("train", "r.yaml", "--json", sets=[*MIXED, "train.schedule={name: constant}"])
    assert whole.code == 0
    other = [*SMALL, "data.mixture={code: {weight: 0.5, max_epochs: null}}", "train.schedule={name: constant}"]
    cli("train", "r.yaml", sets=[*other, "train.steps=20"]).expect_fault(2, "data.mixture.code.weight: 0.25 -> 0.5")
    again = cli("train", "r.yaml", "--json", sets=[*MIXED, "train.schedule={name: constant}", "train.steps=20"])
    assert again.json()["mixture"] == whole.json()["mixture"], "the same samples, stopped or not"


@pytest.mark.slow
def test_a_budget_is_of_the_run_and_a_longer_run_is_another_mixture(two: Path, cli: Cli) -> None:
    sets = [*SMALL, "data.mixture={code: {tokens: 1000}}", "train.schedule={name: constant}"]
    code, _ = cli("train", "r.yaml", "--json", sets=sets).json()["mixture"]
    assert code["tokens"] == pytest.approx(1000, abs=16)
    cli("train", "r.yaml", sets=[*sets, "train.steps=20"]).expect_fault(4, "mixture {'code': ", "start another run")


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ("{code: {weight: 0.25}}", "epochs, and max_epochs is 4"),
        ("{'*': {epochs: 1}}", "and no other source takes what is left"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_begins(two: Path, cli: Cli, mixture: str, said: str) -> None:
    sets = [*SMALL, f"data.mixture={mixture}", "train.steps=1000"]
    prepared = cli("prepare", "r.yaml", sets=sets)
    assert prepared.code == 0 and "training will not begin: data.mixture: " in prepared.err and said in prepared.err
    cli("train", "r.yaml", sets=sets).expect_fault(3, "data.mixture", said)
    assert not (two / "runs" / "small" / "recipe.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["epochs: 2", "weight: 0.25", "tokens: 1000"])
def test_a_source_of_which_nothing_is_left_is_told_and_no_part_of_a_mixture(two: Path, cli: Cli, entry: str) -> None:
    for path in (two / "more").iterdir():
        path.write_text("too short")
    clean = ["data.clean=[{min_length: {characters: 20}}]", f"data.mixture={{code: {{{entry}}}}}"]
    said = cli("train", "r.yaml", sets=[*SMALL, *clean])
    said.expect_fault(3, "data.mixture: code has 0 tokens for training; one sample needs 17")
    told = cli("prepare", "r.yaml", sets=clean).err
    assert "nothing of source code is left for training (21 documents read)" in told and "source prose" not in told


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ("{'*': {weight: 0.5}}", "the weights are 0.5 = 0.5, and no other source takes the rest"),
        ("{'*': {weight: 0}}", "the weights are 0 = 0, and no other source takes the rest"),
        ("{code: {weight: 1}}", "the weights are 1 = 1, which leaves nothing for the other sources"),
        ("{code: {tokens: 9000000}}", "ask for 9,000,000 (code) = 9,000,000 tokens; a run of 256,000 tokens"),
        (
            "{code: {tokens: 9000000}, '*': {epochs: 1}}",
            "ask for 9,000,000 (code) = 9,000,000 tokens; a run of 256,000",
        ),
        ("{'*': {tokens: 1000}}", "and no other source takes what is left"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "check"])
def test_what_no_amount_of_text_makes_right_is_refused_before_it_is_read(
    two: Path, cli: Cli, command: str, mixture: str, said: str
) -> None:
    sets = [*SMALL, f"data.mixture={mixture}", "train.steps=1000"]
    cli(command, "r.yaml", sets=sets).expect_fault(2, "data.mixture", said)
    assert not (two / "work").exists()


def test_a_name_that_no_source_has_is_refused_before_anything_is_read(two: Path, cli: Cli) -> None:
    cli("train", "r.yaml", sets=[*SMALL, "data.mixture={coed: {weight: 0.5}}"]).expect_fault(
        2, "'coed'", "did you mean 'code'"
    )
    assert not (two / "work").exists()
    everything = ["optimizer={name: gd}", "batch_tokens=all"]
    sets = [*MIXED, *(f"train.{value}" for value in everything)]
    cli("train", "r.yaml", sets=sets).expect_fault(2, "data.mixture with train.batch_tokens all")
