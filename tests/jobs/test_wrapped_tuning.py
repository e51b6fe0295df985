"""Architectures that tilth does not have, tuned whole and by an adapter through transformers' own classes: the same
commands, checkpoints and results as of its own model."""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import tilth
from tests.jobs.bases import CONFIGS, SFT, tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.helpers import hashes
from tests.model.adapter_helpers import peft_quietly
from tests.model.families import from_config, quiet, save
from tests.tokenizer import foreign_kinds
from tilth.core.errors import RecipeError
from tilth.data.batches.masking import MaskingConfig, make_masker
from tilth.jobs.runs import dataset_of
from tilth.model.wrapped import WrappedModel
from tilth.model.wrapped_config import read_wrapped_config

pytestmark = pytest.mark.slow

IDS = list(range(5, 25))


@torch.no_grad()
def theirs_says(model: Any) -> torch.Tensor:
    said: torch.Tensor = model.eval()(torch.tensor([IDS])).logits[0]
    return said


def says(path: Path, **options: Any) -> torch.Tensor:
    return torch.from_numpy(tilth.load(path, device="cpu", **options).logits(IDS))


@pytest.mark.parametrize("kind", ["bloom", "neox", "phi"])
def test_a_model_that_trains_whole(tmp_path: Path, cli: Cli, kind: str) -> None:
    write_base(tmp_path / "base", kind)
    before, run = hashes(tmp_path / "base"), tmp_path / "runs" / "tuned"
    train = {"steps": 8, "checkpoint": {"every_steps": 4}}
    tuning(tmp_path, "base", train=train, evaluate={"every": 4})
    result = cli("train", "r.yaml", "--json").json()
    losses = [json.loads(line)["loss"] for line in (run / "steps.jsonl").read_text().splitlines()]
    assert len(losses) == result["step"] == 8 and losses[-1] < losses[0] and hashes(tmp_path / "base") == before
    ours = tilth.load(run, device="cpu")
    assert isinstance(ours.model, WrappedModel) and ours.config.context_length == 32
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(run / "final")
    torch.testing.assert_close(says(run), theirs_says(theirs), atol=1e-5, rtol=1e-5)
    assert torch.equal(says(run, which="latest"), says(run)) and not torch.equal(says(run, which=4), says(run))
    evaluated = cli("evaluate", "runs/tuned", "--json").json()
    assert evaluated["loss"] == pytest.approx(result["validation_loss"], abs=1e-5)
    assert cli("generate", "runs/tuned", "--prompt", "the soil").code == 0
    assert cli("train", "r.yaml", "--json").json()["step"] == 8, "typed again, it is over"


@pytest.mark.parametrize(
    ("kind", "data", "precision"), [("distilbert", {}, "bf16"), ("electra", {"packing": {"too_long": "split"}}, "fp32")]
)
def test_a_masked_model_goes_on_guessing_hidden_words(
    tmp_path: Path, cli: Cli, kind: str, data: dict[str, Any], precision: str
) -> None:
    write_base(tmp_path / "base", kind)
    train = {"objective": "masked_lm", "steps": 25, "precision": precision, "optimizer": {"lr": 1e-2}}
    tuning(tmp_path, "base", data=data, train=train)
    assert cli("check", "r.yaml").code == 0
    said = cli("train", "r.yaml", "--json")
    result = said.json()
    assert "evaluate runs/tuned" in said.out and "generate" not in said.out, "it writes no text"
    first = tilth.history(tmp_path / "runs" / "tuned").steps[0]
    assert first.loss > 5 and result["validation_loss"] < first.loss - 1
    measured = cli("evaluate", "runs/tuned", "--json")
    assert measured.json()["loss"] == pytest.approx(result["validation_loss"], rel=0.01)
    assert "next token" not in measured.out
    assert cli("export", "runs/tuned", "--out", "out").code == 0
    with quiet():
        fill = transformers.pipeline("fill-mask", model=str(tmp_path / "out"))
    torch.testing.assert_close(says(tmp_path / "runs" / "tuned"), theirs_says(fill.model), atol=1e-4, rtol=1e-4)
    assert len(fill("the soil [MASK] in the green field")) == 5


@pytest.mark.parametrize("kind", ["fnet", "deberta"])
def test_a_masked_model_that_cannot_pack_is_measured_over_windows(tmp_path: Path, cli: Cli, kind: str) -> None:
    """The last of which ends with the text, as transformers' class reads it: unpadded."""
    write_base(tmp_path / "base", kind)
    train = {"objective": "masked_lm", "steps": 8, "optimizer": {"lr": 1e-2}}
    tuning(tmp_path, "base", data={"cross_document_attention": True}, train=train, evaluate={"every": 4})
    assert cli("check", "r.yaml").code == 0
    assert cli("train", "r.yaml", "--json").json()["step"] == 8
    found = cli("evaluate", "runs/tuned", "--pseudo-perplexity", 10_000, "--json").json()
    stream, tokenizer = (
        dataset_of(tmp_path / "runs" / "tuned").stream("validation"),
        tilth.load(tmp_path / "runs" / "tuned").tokenizer,
    )
    masker = make_masker(MaskingConfig(), tokenizer, 0)
    with quiet():
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "runs" / "tuned" / "final").eval()
    ids, losses = torch.from_numpy(stream.read(0, stream.tokens).astype("int64")), list[float]()
    assert stream.tokens % 32, "the last window is not full"
    for place in (place for place, token in enumerate(ids.tolist()) if not masker.special[token]):
        window = ids[place // 32 * 32 : place // 32 * 32 + 32].clone()[None]
        window[0, place % 32] = masker.mask_token
        with torch.no_grad():
            losses.append(-float(theirs(window).logits[0, place % 32].log_softmax(-1)[ids[place]]))
    assert found["pseudo_tokens"] == len(losses)
    assert math.log(found["pseudo_perplexity"]) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_an_adapter_beside_it(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "neox")
    data = {**SFT["data"]}
    train = {**SFT["train"], "steps": 6, "checkpoint": {"every_steps": 2}}
    adapter = {"rank": 4, "targets": ["query_key_value", "dense_4h_to_h"]}
    tuning(tmp_path, "base", data=data, train=train, adapter=adapter)
    cli("train", "r.yaml", "--json").json()
    run = tmp_path / "runs" / "tuned"
    with quiet():
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        plain = theirs_says(base)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT asks what transformers has renamed
            theirs = theirs_says(peft.PeftModel.from_pretrained(base, run / "final"))
    torch.testing.assert_close(says(run), theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain, theirs) and torch.equal(says(run, which="latest"), says(run))
    stored = sum(path.stat().st_size for path in (run / "final").glob("*.safetensors"))
    assert stored < (tmp_path / "base" / "model.safetensors").stat().st_size / 5


def test_tokens_that_the_recipe_adds(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "phi")
    rows = read_wrapped_config(tmp_path / "base").vocabulary
    added = [f"<|new_{n}|>" for n in range(rows)]
    tuning(tmp_path, "base", tokenizer={"special_tokens": added}, train={"steps": 2})
    cli("train", "r.yaml", "--json").json()
    ours = tilth.load(tmp_path / "runs" / "tuned", device="cpu")
    assert ours.config.vocabulary == ours.tokenizer.vocab_size > rows and len(ours.model.output_weight) > rows
    spread = ours.model.output_weight.detach()[-len(added) // 2 :].std(0)
    assert 0 < float(spread.max()) < 0.05, "new rows are near the mean of the old ones, and no two alike"


def test_what_no_file_of_an_adapter_holds_is_refused_before_the_first_step(tmp_path: Path, cli: Cli) -> None:
    """Of tilth's own model: three of its layers lie in one tensor of GPT-2's."""
    write_base(tmp_path / "base", "gpt2")
    adapter = {"rank": 2, "targets": ["mlp.*"], "modules_to_save": ["layers.1.self_attn.*"]}
    tuning(tmp_path, "base", adapter=adapter)
    for command in ("check", "train"):
        wrong = cli(command, "r.yaml")
        assert wrong.code == 2 and "cannot be saved alone" in " ".join((wrong.out + wrong.err).split())
    assert not (tmp_path / "runs").exists()


def test_check_names_the_embeddings_as_the_class_does(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "neox")
    data = {**SFT["data"], "chat": {"template": "llama3"}}
    names = ("begin_of_text", "start_header_id", "end_header_id", "eot_id")
    added = {"special_tokens": [f"<|{name}|>" for name in names]}
    tuning(tmp_path, "base", **{**SFT, "data": data, "adapter": {"rank": 4}, "tokenizer": added})

    def said(*sets: str) -> list[str]:
        words = [word for value in sets for word in ("--set", value)]
        found = cli("check", "r.yaml", "--json", *words).json()
        assert found["ok"], found["errors"]
        return [warning["remedy"] for warning in found["warnings"] if warning["rule"] == "new_tokens"]

    for command in ("check", "train"):
        wrong = cli(command, "r.yaml", "--set", "adapter.modules_to_save=[embed_tokens]")
        assert wrong.code == 2 and "'embed_tokens' names none" in " ".join((wrong.out + wrong.err).split())
    assert not (tmp_path / "runs").exists(), "refused before a run folder is made"
    [remedy] = said()
    assert "embed_in" in remedy
    assert said(remedy.replace(": ", "=", 1)) == []


def test_what_cannot_keep_documents_apart_is_told_before_a_step(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "bloom")
    tuning(tmp_path, "base", **SFT)
    for command in ("check", "prepare", "train"):
        cli(command, "r.yaml").expect_fault(
            2, "BloomForCausalLM does not keep the documents of a row apart", "causal_lm"
        )
    assert not (tmp_path / "work").exists(), "and before data is prepared"
    assert not list((tmp_path / "runs" / "tuned").glob("*.jsonl"))
    cli("train", "r.yaml", sets=["model.context_length=4096", "train.batch_tokens=4096"]).expect_fault(
        2, "documents of a row"
    )
    write_base(tmp_path / "other", "phi")
    long = ["model.from=other", "model.context_length=64"]
    cli("train", "r.yaml", sets=long).expect_fault(2, "context_length is 64", "made for 32 tokens")


ROPE = {"rope_theta": 10000.0, "partial_rotary_factor": 1.0}
PHI3 = {
    "model_type": "phi3",
    "rope_parameters": {**ROPE, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
    "original_max_position_embeddings": 16,
    "pad_token_id": 0,
}
DYNAMIC = {"rope_parameters": {**ROPE, "rope_type": "dynamic", "factor": 2.0}}


@pytest.mark.parametrize(
    ("kind", "values", "name"), [("phi", PHI3, "Phi3ForCausalLM"), ("llama", DYNAMIC, "LlamaForCausalLM")]
)
def test_positions_that_turn_by_length_are_told_before_data_is_prepared(
    tmp_path: Path, cli: Cli, kind: str, values: dict[str, Any], name: str
) -> None:
    config = transformers.AutoConfig.for_model(**{**CONFIGS[kind]().to_dict(), **values})
    save(from_config(config), tmp_path / "base")
    foreign_kinds.gpt2(tmp_path / "base")
    tuning(tmp_path, "base", **{**SFT, "model": {"wrapped": True}})
    for command in ("check", "prepare", "train"):
        cli(command, "r.yaml").expect_fault(2, f"{name} does not keep the documents of a row apart", "causal_lm")
    assert not (tmp_path / "work").exists() and not (tmp_path / "runs").exists()
    tuning(tmp_path, "base", model={"wrapped": True}, train={"steps": 1})
    assert cli("train", "r.yaml").code == 0, "windows it learns"


def test_layers_that_carry_a_state_are_told_before_data_is_prepared(tmp_path: Path, cli: Cli) -> None:
    """Of ten layers, of which the one that carries none stands last."""
    sizes = {**CONFIGS["phi"]().to_dict(), "model_type": "lfm2", "num_key_value_heads": 2, "num_hidden_layers": 10}
    config = transformers.AutoConfig.for_model(**sizes, layer_types=["conv"] * 9 + ["full_attention"])
    save(from_config(config), tmp_path / "base")
    foreign_kinds.gpt2(tmp_path / "base")
    tuning(tmp_path, "base", **SFT)
    for command in ("check", "prepare", "train"):
        cli(command, "r.yaml").expect_fault(
            2, "Lfm2ForCausalLM does not keep the documents of a row apart", "causal_lm"
        )
    assert not (tmp_path / "work").exists() and not (tmp_path / "runs").exists()


def test_a_class_that_cannot_be_tried_is_told_and_named(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**CONFIGS["phi"]().to_dict(), "intermediate_size": 60}  # what was tried is kept by config
    save(from_config(transformers.AutoConfig.for_model(**values)), tmp_path / "base")
    foreign_kinds.gpt2(tmp_path / "base")
    tuning(tmp_path, "base", **SFT)

    @functools.wraps(transformers.PhiForCausalLM.forward)
    def fails(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("heads do not divide")

    monkeypatch.setattr(transformers.PhiForCausalLM, "forward", fails)
    checked = cli("check", "r.yaml", "--json")
    assert "untried" in [found["rule"] for found in json.loads(checked.out.splitlines()[-1])["warnings"]]
    cli("train", "r.yaml").expect_fault(4, "PhiForCausalLM cannot read five tokens: heads do not divide", "config.json")


def test_dropout_is_the_recipes(tmp_path: Path) -> None:
    write_base(tmp_path / "base", "phi")
    config = read_wrapped_config(tmp_path / "base").with_dropout(0.25, 0.5)
    changed = {key: value for key, value in config.values.items() if "drop" in key}
    assert changed == {"embd_pdrop": 0.25, "resid_pdrop": 0.25, "attention_dropout": 0.5}


def test_the_card_of_a_masked_models_adapter_loads_it(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "base", "distilbert")
    train = {"objective": "masked_lm", "steps": 4, "optimizer": {"lr": 1e-2}}
    tuning(tmp_path, "base", adapter={"rank": 4}, train=train)
    cli("train", "r.yaml", "--json").json()
    assert cli("export", "runs/tuned", "--to", "peft", "--out", "adapter").code == 0
    [code] = re.findall("```python\n(.*?)```", (tmp_path / "adapter" / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    peft_quietly(exec, code, made)
    torch.testing.assert_close(theirs_says(made["model"].eval()), says(Path("runs/tuned")), atol=1e-5, rtol=1e-5)


def test_exports_are_what_transformers_and_peft_load(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "neox")
    tuning(tmp_path, "base", **{**SFT, "adapter": {"rank": 4}, "train": {**SFT["train"], "steps": 4}})
    cli("train", "r.yaml", "--json").json()
    assert cli("export", "runs/tuned", "--to", "hf", "--out", "merged").code == 0
    said = cli("export", "runs/tuned", "--to", "peft", "--out", "adapter")
    assert said.code == 0, said.err
    with quiet():
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(theirs_says(merged), says(tmp_path / "runs" / "tuned"), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(says(tmp_path / "merged"), theirs_says(merged), atol=1e-5, rtol=1e-5)
    assert {"README.md", "tokenizer.json", "generation_config.json"} <= {
        p.name for p in (tmp_path / "merged").iterdir()
    }
    assert torch.equal(says(tmp_path / "adapter"), says(tmp_path / "runs" / "tuned"))


def refused_base(folder: Path) -> Path:
    """A GPT-2 that scales its scores by the layer, which tilth's own model does not compute."""
    write_base(folder, "gpt2")
    config = json.loads((folder / "config.json").read_text()) | {"scale_attn_by_inverse_layer_idx": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_tilths_own_model_refuses_trains_through_transformers_class(tmp_path: Path, cli: Cli) -> None:
    refused_base(tmp_path / "base")
    tuning(tmp_path, "base", train={"steps": 4, "checkpoint": {"every_steps": 2}})
    for command, code in (("check", 2), ("train", 4)):
        cli(command, "r.yaml").expect_fault(code, "scale_attn_by_inverse_layer_idx is True", "model.wrapped: true")
    tuning(tmp_path, "base", model={"wrapped": True}, train={"steps": 4, "checkpoint": {"every_steps": 2}})
    assert cli("check", "r.yaml").code == 0
    assert cli("train", "r.yaml", "--json", sets=["train.steps=2"]).json()["step"] == 2
    assert cli("train", "r.yaml", "--json").json()["step"] == 4, "it goes on"
    run = tmp_path / "runs" / "tuned"
    assert cli("generate", "runs/tuned", "--prompt", "the soil").code == 0
    assert cli("evaluate", "runs/tuned", "--json").json()["loss"] > 0
    assert cli("export", "runs/tuned", "--out", "out").code == 0
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.config.scale_attn_by_inverse_layer_idx
    for path in (run, tmp_path / "out"):
        assert isinstance(tilth.load(path, device="cpu").model, WrappedModel), "the run remembers it, and its export"
        torch.testing.assert_close(says(path), theirs_says(theirs), atol=1e-5, rtol=1e-5)
    assert torch.equal(says(run, which="latest"), says(run)) and not torch.equal(says(run, which=2), says(run))


def test_an_adapter_beside_what_tilths_own_model_refuses(tmp_path: Path, cli: Cli) -> None:
    refused_base(tmp_path / "base")
    train = {**SFT["train"], "steps": 3, "optimizer": {"lr": 1e-2}}
    tuning(tmp_path, "base", **{**SFT, "model": {"wrapped": True}, "adapter": {"rank": 2}, "train": train})
    cli("train", "r.yaml", "--json").json()
    run = tmp_path / "runs" / "tuned"
    assert cli("export", "runs/tuned", "--to", "peft", "--out", "adapter").code == 0
    with quiet():
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    plain = theirs_says(base)
    theirs = theirs_says(peft_quietly(peft.PeftModel.from_pretrained, base, tmp_path / "adapter"))
    assert not torch.allclose(plain, theirs)
    for said in (says(run), says(tmp_path / "adapter"), says(tmp_path / "base", adapter=tmp_path / "adapter")):
        torch.testing.assert_close(said, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(says(run, adapter="none"), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", [None, True])
def test_another_class_than_an_adapter_was_trained_beside_is_refused_by_that(
    trained: bool | None, tmp_path: Path, cli: Cli
) -> None:
    """The same files, with other names of the weights: no fingerprint tells that they are the same."""
    base = write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", model={"wrapped": trained}, adapter={"rank": 2}, train={"steps": 1})
    cli("train", "r.yaml", "--json").json()
    run = tmp_path / "runs" / "tuned"
    with pytest.raises(RecipeError, match=r"was trained with(out)? model\.wrapped") as caught:
        tilth.load(base, adapter=run, wrapped=not trained)
    said = "transformers' class, and wrapped asks for tilth's own" if trained else "tilth's own, and wrapped asks for t"
    assert said in str(caught.value) and caught.value.remedy == "leave wrapped out (--wrapped)"
    for wrapped in (trained, None):
        assert torch.equal(says(base, adapter=run, wrapped=wrapped), says(run))


def test_the_option_of_the_commands(tmp_path: Path, cli: Cli) -> None:
    refused_base(tmp_path / "base")
    (tmp_path / "text.txt").write_text("the soil of the field\n")
    for words in (["generate", "base"], ["evaluate", "base", "--data", "text.txt"], ["export", "base", "--out", "out"]):
        cli(*words).expect_fault(4, "scale_attn_by_inverse_layer_idx is True", "--wrapped with a command")
        assert cli(*words, "--wrapped").code == 0, words
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(says(tmp_path / "base", wrapped=True), theirs_says(theirs), atol=1e-5, rtol=1e-5)
    cli("export", "base", "--to", "peft", "--out", "other", "--wrapped").expect_fault(2, "--wrapped without --to hf")


def test_where_there_is_no_class_of_transformers(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", train={"steps": 1})
    assert cli("train", "r.yaml").code == 0
    cli("generate", "runs/tuned", "--wrapped").expect_fault(2, "runs/tuned is in tilth's own format", "leave it out")
    again = ["model.from=runs/tuned", "model.wrapped=true", "name=again"]
    cli("train", "r.yaml", sets=again).expect_fault(2, "runs/tuned is in tilth's own format", "remove model.wrapped")
    write_base(tmp_path / "other", "phi")
    cli("train", "r.yaml", sets=["model.from=other", "model.wrapped=false"]).expect_fault(4, "model type 'phi'")
