"""What a preflight says to change can be changed, and helps."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tilth
from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli
from tilth.model import precision
from tilth.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

Said = Callable[..., dict[str, str]]


@pytest.fixture
def said(tmp_path: Path, cli: Cli) -> Said:
    """`said(recipe's sections, "key=value", …)`: the remedies by rule, of errors and warnings."""

    def look(sections: dict[str, Any], *sets: str) -> dict[str, str]:
        tuning(tmp_path, "base", **sections)
        found = json.loads(cli("check", "r.yaml", "--json", sets=sets).out.splitlines()[-1])
        return {fault["rule"]: fault["remedy"] for fault in [*found["errors"], *found["warnings"]]}

    return look


@pytest.mark.parametrize("kind", ["llama", "phi"])
def test_no_row_is_to_be_longer_than_the_checkpoint_is_made_for(said: Said, tmp_path: Path, kind: str) -> None:
    """Of a family that tilth has and of a class of transformers', both made for 32 tokens."""
    write_base(tmp_path / "base", kind)
    longer = "model.from: a checkpoint that is made for more than 32 tokens"
    assert said(SFT, "data.packing.too_long=error")["too_long"] == "set data.packing.too_long to split"
    cut = said(SFT, "data.packing.too_long=truncate")
    assert cut["without_end"] == f"data.packing.too_long: split or drop, or {longer}"
    assert cut["masked"].endswith(f"where answers are cut off, {longer}") and cut["truncated"].startswith(longer)
    shorter = said(SFT, "data.packing.too_long=truncate", "model.context_length=28", "train.batch_tokens=280")
    assert shorter["without_end"].endswith("or model.context_length: more than 28")
    wanted = said(SFT, "data.packing.too_long=error", "model.context_length=28", "train.batch_tokens=280")["too_long"]
    assert wanted == "set data.packing.too_long to split", "the longest has more than 32"


def test_rows_that_a_checkpoint_lacks_for_its_own_tokenizer_are_told(said: Said, tmp_path: Path) -> None:
    """None of their ids occurs, or it would be an error; that the recipe adds tokens is another thing."""
    own = load_tokenizer(write_base(tmp_path / "base", "llama"))
    causal = {"tokenizer": {"special_tokens": ["<|of_the_recipe|>"]}}
    assert "random_rows" not in said(causal)
    own.with_special_tokens([f"<|spare {n}|>" for n in range(512 + 40 - own.vocab_size)]).save(tmp_path / "base")
    assert said(causal)["random_rows"].startswith("model.from: a checkpoint whose tokenizer and weights are of one")
    recipe = tilth.load_recipe(tmp_path / "r.yaml")
    with contextlib.chdir(tmp_path):
        (fault,) = (fault for fault in tilth.check(recipe, "work").warnings if fault.rule == "random_rows")
    assert "has 552 ids, and its model 512 rows: 40 rows are made at random" in fault.message


def test_freezing_nearly_all_is_told(said: Said, tmp_path: Path) -> None:
    write_base(tmp_path / "base", "llama")
    whole = ["embed_tokens", "lm_head", "layers.[0-3].*"]
    assert "frozen" in said({"train": {"freeze": whole}}), "the last norm is left"
    assert "frozen" not in said({"train": {"freeze": ["embed_tokens", "lm_head", "layers.0.*"]}})
    assert "frozen" not in said({"adapter": {"rank": 4}}), "an adapter is small by itself"


@pytest.mark.parametrize(
    ("optimizer", "sections", "most"),
    [
        ("adamw", {"model": {"from": None, "preset": "llama-tiny", "context_length": 32}}, 0.1),
        ("adamw", {}, 0.01),
        ("adamw", {"adapter": {"rank": 4}}, 0.05),
        ("muon", {}, 0.1),
        ("sgd", {}, 1e4),
    ],
)
def test_a_rate_that_nobody_uses(
    said: Said, cli: Cli, tmp_path: Path, optimizer: str, sections: dict[str, Any], most: float
) -> None:
    write_base(tmp_path / "base", "llama")

    def at(rate: float) -> str | None:
        return said(sections, f"train.optimizer={{name: {optimizer}, lr: {rate}}}").get("rate")

    assert at(most) is None
    if optimizer == "sgd":
        return
    for rate, code in ((most * 1.5, 0), (0.99, 0), (1.0, 2), (1e30, 2)):
        sets = [f"train.optimizer={{name: {optimizer}, lr: {rate}}}"]
        remedy = at(rate)
        assert remedy is not None and cli("check", "r.yaml", sets=sets).code == code
        assert at(float(remedy.removeprefix("train.optimizer.lr: ").removesuffix(" or less"))) is None
    cli("train", "r.yaml", sets=sets).expect_fault(2, "train.optimizer.lr is 1e+30", f"{optimizer} changes numbers")
    assert not (tmp_path / "runs").exists()


def test_a_rank_above_the_side_of_a_layer(said: Said, tmp_path: Path) -> None:
    write_base(tmp_path / "base", "llama")
    assert "rank" not in said({"adapter": {"rank": 16}}), "of keys, of two heads of eight"
    remedy = said({"adapter": {"rank": 17}})["rank"]
    assert remedy == "adapter.rank: 16 or less, or adapter.targets: larger layers alone"
    assert "rank" not in said({"adapter": {"rank": 32, "targets": ["q_proj", "up_proj"]}})


@pytest.mark.parametrize("length", ["steps=3", "steps=50", "steps=10000", "epochs=90"])
def test_a_step_that_is_too_much_by_itself_is_to_be_smaller(said: Said, tmp_path: Path, length: str) -> None:
    """An epoch a step is still as many as there are steps."""
    write_base(tmp_path / "base", "llama")
    sets = [f"train.{length}", "train.schedule.warmup_steps=0", *(["train.steps=null"] if "epochs" in length else [])]
    remedy = said({}, *sets, "train.batch_tokens=320000000")["by_heart"]
    found = re.match(r"(?:train\.(\w+): (\d+) and )?train\.batch_tokens: (\d+) or less, or data\.sources", remedy)
    assert found, remedy
    shorter = [f"train.{found[1]}={found[2]}"] if found[1] else []
    assert not {"by_heart", "batch"} & said({}, *sets, *shorter, f"train.batch_tokens={found[3]}").keys()


def test_a_model_that_starts_from_none_is_not_told_of_checkpoints(said: Said) -> None:
    shape = {"from": None, "preset": "llama-tiny", "context_length": 32, "max_position_embeddings": 32}
    names = {"tokenizer": {"kind": "byte", "special_tokens": ["<|im_start|>", "<|im_end|>"]}, "model": shape, **SFT}
    longer = "model.context_length and model.max_position_embeddings"
    assert said(names, "data.packing.too_long=truncate")["truncated"].startswith(f"{longer}: more than 32, or ")
    short = ["model.context_length=8", "model.max_position_embeddings=8", "train.batch_tokens=64"]
    assert f"without one, {longer} above 8" in said(names, *short)["too_long"]
    roomier = ["model.context_length=64", "model.max_position_embeddings=64", "data.packing.too_long=truncate"]
    assert "truncated" not in said(names, *roomier)


def test_conversations_that_need_a_template_are_to_get_one(said: Said, tmp_path: Path) -> None:
    """Pairs go without; the remedy is that of the error where none is left."""
    write_base(tmp_path / "base", "llama")
    turns = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"an {n}"}] for n in range(40)]
    rows = [{"messages": turn * (2 if n % 4 == 3 else 1)} for n, turn in enumerate(turns)]
    sections = {**SFT, "data": {**SFT["data"], "sources": [{"path": "m.jsonl", "map": {"messages": "messages"}}]}}
    sections["data"]["chat"] = None
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = "data.chat: {template: chatml}, or checkpoint where model.from has a template of its own"
    assert said(sections)["unusable"].startswith(f"{given}; `tilth trace tuned --doc m.jsonl:4` tells of one")
    names = "tokenizer.special_tokens=['<|im_start|>', '<|im_end|>']"
    assert "unusable" not in said(sections, "data.chat={template: chatml}", names)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"x": 1}]))
    mended = f"{given}, and data.sources: mend these rows; "
    assert said(sections, "data.sources.0.max_bad_rows=1")["unusable"].startswith(mended)


@pytest.mark.parametrize(("times", "told"), [(1.4, False), (7.0, True)])
def test_a_half_precision_that_this_processor_has_no_unit_for(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, times: float, told: bool
) -> None:
    def seconds(rows: int, width: int, inner: int, dtype: torch.dtype) -> float:
        assert (rows <= 512, width, inner) == (True, 32, 64)
        return 0.01 if dtype == torch.float32 else 0.01 * times

    write_base(tmp_path / "base", "llama")
    monkeypatch.setattr(precision, "_product_seconds", seconds)
    for half in ("bf16", "fp16"):
        assert said({}, f"train.precision={half}").get("precision") == ("train.precision: auto" if told else None)
    assert "precision" not in said({}, "train.precision=fp32") | said({}, "train.precision=auto")


def test_a_product_s_time_is_measured() -> None:
    cpu = torch.device("cpu")
    assert precision.slowdown("fp32", cpu, 8, 8, 8) is None is precision.slowdown("auto", cpu, 8, 8, 8)
    assert precision.slowdown("bf16", torch.device("cuda"), 8, 8, 8) is None
    found = precision.slowdown("bf16", cpu, 256, 64, 128)
    assert found is not None and 0.01 < found < 1000


def test_a_product_that_is_timed_needs_no_memory_of_the_model_s_size() -> None:
    """A model that does not fit is told so by what counts it, not by the allocator."""
    assert precision.resolve_precision("auto", torch.device("cpu"), 1, 1 << 21, 1 << 22) in ("fp32", "bf16")


def test_a_model_that_is_too_large_is_told_so_where_the_precision_is_to_be_found(said: Said) -> None:
    model = {"from": None, "preset": "llama-tiny", "hidden_size": 1 << 17, "context_length": 32}
    assert "memory" in said({"model": model, "train": {"precision": "auto"}})
