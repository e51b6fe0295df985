"""An adapter that was trained beside four bits is measured, asked and merged beside them."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers

import tilth
from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import Cli
from tests.model.adapter_helpers import peft_quietly
from tests.model.families import quiet
from tilth.core.errors import CheckpointError
from tilth.model.adapters import adapter_names, choose

IDS = [5, 6, 7, 8, 9]
QUANTIZED = {"rank": 4, "quantize": "nf4"}


def given_to_bitsandbytes(code: str) -> dict[str, Any]:
    """What the snippet of a card says of the rounding."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    [made] = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "BitsAndBytesConfig"]
    return {key.arg or "": ast.literal_eval(key.value) for key in made.keywords}


def snippet(folder: Path) -> str:
    [code] = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert isinstance(code, str)
    return code


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{}, {"dora": True, "double_quantize": False}, {"targets": ["*.q_proj", "*.v_proj"]}], ids=str
)
def test_its_figures_are_those_of_training(tmp_path: Path, cli: Cli, more: dict[str, Any]) -> None:
    base = write_base(tmp_path / "base", "gpt2")
    tuning(tmp_path, "base", adapter=QUANTIZED | more, train={"optimizer": {"lr": 3e-2}})
    told = cli("train", "r.yaml", "--json").json()["validation_loss"]
    run = tmp_path / "runs" / "tuned"
    assert tilth.evaluate(run).loss == pytest.approx(told, abs=1e-6)
    final = tilth.load(run).logits(IDS)
    assert np.abs(tilth.load(run, "latest").logits(IDS) - final).max() < 1e-5
    assert (tilth.load(base, adapter=run).logits(IDS) == final).all()
    assert np.abs(tilth.load(run, adapter="none").logits(IDS) - tilth.load(base).logits(IDS)).max() > 1e-3, "rounded"
    tilth.export(run, tmp_path / "adapter", to="peft")
    some = "targets" in more  # q and v, of what is one matrix in the class of transformers
    said = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": more.get("double_quantize", True),
        "llm_int8_skip_modules": ["lm_head", *(["attn.c_proj", "mlp.c_fc", "mlp.c_proj"] if some else [])],
    }
    assert given_to_bitsandbytes(snippet(tmp_path / "adapter")) == said, "what it is to be loaded beside"
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert ("transformer.h.0.attn.c_attn and 1 more only a part was rounded" in card) == some
    tilth.export(shutil.copytree(tmp_path / "adapter", tmp_path / "copy"), tmp_path / "again", to="peft")
    assert given_to_bitsandbytes(snippet(tmp_path / "again")) == said, "without its run too"
    tilth.export(run, tmp_path / "merged")
    with quiet(), torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        assert np.abs(theirs(torch.tensor([IDS])).logits[0].numpy() - final).max() < 1e-4


@pytest.mark.slow
def test_the_card_of_a_masked_model_rounds_its_base(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base(tmp_path / "base", "distilbert")
    train = {"objective": "masked_lm", "steps": 2}
    tuning(tmp_path, "base", adapter=QUANTIZED | {"targets": ["*.q_lin", "*lin1"]}, train=train)
    cli("train", "r.yaml", "--json").json()
    cli("export", "runs/tuned", "--to", "peft", "--out", "adapter", "--json").json()
    assert "pipeline_tag: fill-mask" in (tmp_path / "adapter" / "README.md").read_text()
    given: list[Any] = []
    plain = transformers.AutoModelForMaskedLM.from_pretrained

    def from_pretrained(name: str, quantization_config: Any) -> Any:
        given.append(quantization_config)
        return plain(name)

    monkeypatch.setattr(transformers.AutoModelForMaskedLM, "from_pretrained", from_pretrained)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    peft_quietly(exec, snippet(tmp_path / "adapter"), made)
    [said] = given
    plain_modules = ["vocab_projector", "vocab_transform", "attention.k_lin", "attention.v_lin", "attention.out_lin"]
    assert set(said.llm_int8_skip_modules) == {*plain_modules, "ffn.lin2"} and said.load_in_4bit
    assert made["model"].peft_config


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_without_the_adapter_what_it_trained_whole_is_the_base_s(
    tmp_path: Path, cli: Cli, quantize: str | None
) -> None:
    base = write_base(tmp_path / "base", "llama")
    whole = ["embed_tokens", "layers.1.mlp.down_proj"]
    adapter = {"rank": 2, "quantize": quantize, "targets": ["*.q_proj"], "modules_to_save": whole}
    tuning(tmp_path, "base", adapter=adapter, train={"steps": 2, "optimizer": {"lr": 3e-2}})
    cli("train", "r.yaml", "--json").json()
    run = tmp_path / "runs" / "tuned"
    states: tuple[Literal["final", "latest"], ...] = ("final", "latest")
    for which in states:
        wanted = tilth.load(run, which, adapter="none").logits(IDS)
        assert _apart(wanted, tilth.load(base).logits(IDS)) <= (0.2 if quantize else 0.0), "q_proj has four bits"
        half = tilth.load(run, which, adapter="none", dtype="bfloat16")
        assert {p.dtype for p in half.model.parameters() if p.is_floating_point()} == {torch.bfloat16}
        assert _apart(half.logits(IDS), wanted) < 0.02
        trained = tilth.load(run, which).logits(IDS)
        assert _apart(trained, wanted) > 0.1
        choose(half.model, adapter_names(half.model)[0])
        assert _apart(half.logits(IDS), trained) < 0.02


def _apart(given: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(given - wanted).mean()) / wanted.std())


@pytest.mark.slow
def test_another_adapter_finds_the_base_as_it_wants_it(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "llama")
    for name, adapter in (("four", QUANTIZED), ("plain", {"rank": 2})):
        tuning(tmp_path, "base", adapter=adapter, train={"steps": 2})
        cli("train", "r.yaml", "--json", "--run", f"runs/{name}").json()
    broken = shutil.copytree(tmp_path / "runs" / "plain" / "final", tmp_path / "broken")
    (broken / "manifest.json").unlink()
    for content, said in (("[]", "from, fingerprint, context_length"), ('{"from": 1}', "from, fingerprint")):
        (broken / "base.json").write_text(content)
        for load in (lambda: tilth.load(broken), lambda: tilth.load(tmp_path / "base", adapter=broken)):
            with pytest.raises(CheckpointError, match=f"base.json is damaged: {said}"):
                load()
    four, plain = tmp_path / "runs" / "four", tmp_path / "runs" / "plain"
    for run, other in ((four, plain), (plain, four)):
        assert (tilth.load(run, adapter=other).logits(IDS) == tilth.load(other).logits(IDS)).all()
    added = {"special_tokens": ["<|more|>"]}
    tuning(tmp_path, "base", adapter={"rank": 2}, tokenizer=added, train={"steps": 2})
    cli("train", "r.yaml", "--json", "--run", "runs/more").json()
    more = tmp_path / "runs" / "more"
    assert (tilth.load(more, adapter=four).logits(IDS) == tilth.load(four).logits(IDS)).all(), "without its new token"
    latest = tilth.load(four, "latest", adapter=plain).logits(IDS)
    assert (latest == tilth.load(plain).logits(IDS)).all()
