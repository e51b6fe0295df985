"""Architectures that tilth does not have, through transformers' own classes: the same scores, trained, generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.model.families import LENGTH, VOCAB, from_config, save, some_ids
from tilth.core.errors import CheckpointError, RecipeError
from tilth.data.batches.loader import Batch
from tilth.distributed.runtime import Runtime
from tilth.generate.config import SamplingConfig
from tilth.generate.engine import generate_ids
from tilth.model.attention import document_mask
from tilth.model.precision import make_scaler
from tilth.model.wrapped import WrappedModel, load_wrapped
from tilth.model.wrapped_config import read_wrapped_config
from tilth.training.step import accumulate

pytestmark = pytest.mark.slow

_IDS = {"vocab_size": VOCAB, "bos_token_id": 2, "eos_token_id": 3}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
          "max_position_embeddings": LENGTH}  # fmt: skip
_STILL = {"pad_token_id": 0, "dropout": 0.0, "attention_dropout": 0.0, "hidden_dropout_prob": 0.0,
          "attention_probs_dropout_prob": 0.0}  # fmt: skip
_FNET = {key: value for key, value in _SIZES.items() if key != "num_attention_heads"}
CONFIGS: dict[str, Any] = {
    "BloomForCausalLM": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **_IDS),
    "GPTNeoXForCausalLM": lambda: transformers.GPTNeoXConfig(**_SIZES, **_IDS),
    "PhiForCausalLM": lambda: transformers.PhiConfig(**_SIZES, **_IDS),
    "ModernBertForMaskedLM": lambda: transformers.ModernBertConfig(
        **_SIZES, **_IDS, pad_token_id=0, cls_token_id=2, sep_token_id=3
    ),
    "DistilBertForMaskedLM": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=LENGTH, vocab_size=VOCAB, **_STILL
    ),
    "ElectraForMaskedLM": lambda: transformers.ElectraConfig(embedding_size=16, **_SIZES, **_STILL, vocab_size=VOCAB),
    "FNetForMaskedLM": lambda: transformers.FNetConfig(**_FNET, **_STILL, vocab_size=VOCAB),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(from_config(make()), tmp_path_factory.mktemp(name)) for name, make in CONFIGS.items()}


def theirs_of(folder: Path) -> Any:
    masked = "Masked" in json.loads((folder / "config.json").read_text())["architectures"][0]
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder).eval()


def wrapped(folder: Path) -> WrappedModel:
    return load_wrapped(folder, context_length=LENGTH).eval()


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_scores_are_those_of_the_class(name: str, folders: dict[str, Path]) -> None:
    model, ids = wrapped(folders[name]), some_ids()
    assert model.config.architecture == name and model.config.vocabulary == VOCAB
    torch.testing.assert_close(model.logits(model(ids)), theirs_of(folders[name])(ids).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_transformers_reads_as_another_type_is_read_so(tmp_path: Path) -> None:
    """A `mistral` whose layers differ in their windows."""
    window = {"sliding_window": 5, "num_key_value_heads": 2}
    save(from_config(transformers.MistralConfig(**_SIZES, **_IDS, **window)), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values |= {"layer_types": ["sliding_attention", "full_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    model, theirs, ids = wrapped(tmp_path), theirs_of(tmp_path), some_ids()
    assert model.config.architecture == type(theirs).__name__ == "MinistralForCausalLM"
    torch.testing.assert_close(model.logits(model(ids)), theirs(ids).logits, atol=1e-5, rtol=1e-5)
    model.save(tmp_path / "out")
    assert torch.equal(wrapped(tmp_path / "out")(ids), model(ids))


@pytest.mark.parametrize("name", CONFIGS)
def test_class_and_config_are_those_of_transformers(name: str, folders: dict[str, Path]) -> None:
    model, theirs = wrapped(folders[name]), theirs_of(folders[name])
    assert type(model.hf) is type(theirs)
    ours, expected = model.hf.config.to_dict(), theirs.config.to_dict()
    assert {key for key in ours | expected if ours.get(key) != expected.get(key)} <= {"tilth_context_length", "dtype"}


APART = [name for name in CONFIGS if name not in ("BloomForCausalLM", "FNetForMaskedLM")]


@pytest.mark.parametrize("name", APART)
@torch.no_grad()
def test_documents_are_kept_apart(name: str, folders: dict[str, Path]) -> None:
    model, ids, theirs = wrapped(folders[name]), some_ids(1), theirs_of(folders[name])
    mask = document_mask(torch.tensor([[0] * 17 + [1] * 23]), model.config.is_causal)
    packed = model.logits(model(ids, torch.tensor([[*range(17), *range(23)]]), mask))
    alone = torch.cat([theirs(ids[:, :17]).logits, theirs(ids[:, 17:]).logits], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)


def test_a_class_that_cannot_keep_them_apart_says_so(folders: dict[str, Path]) -> None:
    model, ids = wrapped(folders["BloomForCausalLM"]), some_ids(1)
    with pytest.raises(RecipeError, match="BloomForCausalLM does not keep the documents of a row apart"):
        model(ids, mask=document_mask(torch.zeros(1, LENGTH)))


@torch.no_grad()
def test_a_class_that_takes_no_mask_reads_windows_from_both_sides(folders: dict[str, Path]) -> None:
    """A window of a masked model says that every position sees all others: that is what such a class does unasked."""
    model, ids = wrapped(folders["FNetForMaskedLM"]), some_ids(1)
    every = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool)
    assert torch.equal(model(ids, mask=every), model(ids))
    with pytest.raises(RecipeError, match="FNetForMaskedLM does not keep the documents of a row apart"):
        model(ids, mask=document_mask(torch.tensor([[0] * 17 + [1] * 23]), False))


@pytest.mark.parametrize("name", [name for name in CONFIGS if "Causal" in name])
def test_generation_is_that_of_the_class(name: str, folders: dict[str, Path]) -> None:
    model, prompt = wrapped(folders[name]), [5, 6, 7]
    ours = [row[0] for row in generate_ids(model, prompt, SamplingConfig(temperature=0.0), max_new_tokens=12)]
    theirs = theirs_of(folders[name])
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert ours == expected[0, 3:].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_is_that_of_the_class(name: str, folders: dict[str, Path]) -> None:
    model, theirs, ids = wrapped(folders[name]), theirs_of(folders[name]), some_ids(2, 12)
    labels = some_ids(2, 12, seed=9)
    batch = Batch(ids.numpy(), labels.numpy(), np.arange(2))
    runtime = Runtime(torch.device("cpu"))
    loss = accumulate(model, batch, 1, runtime, "fp32", make_scaler("fp32", runtime.device), seed=1, step=0)
    expected = torch.nn.functional.cross_entropy(theirs(ids).logits.flatten(0, 1), labels.flatten())
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    found = dict(model.hf.named_parameters())
    for key, parameter in theirs.named_parameters():
        torch.testing.assert_close(found[key].grad, parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_in_bf16_the_gradient_is_that_of_the_class(name: str, folders: dict[str, Path]) -> None:
    """Products in bf16 under autocast on either side, in rows of several documents too where the class takes such."""
    model, theirs, ids, labels = wrapped(folders[name]), theirs_of(folders[name]), some_ids(2, 12), some_ids(2, 12, 9)
    places, runtime = np.tile([*range(5), *range(7)], (2, 1)), Runtime(torch.device("cpu"))
    documents = np.tile([1] * 5 + [2] * 7, (2, 1)).astype(np.int32)
    apart = {"doc_ids": documents, "positions": places} if name in APART else {}
    batch = Batch(ids.numpy(), labels.numpy(), np.arange(2), causal=model.config.is_causal, **apart)
    accumulate(model, batch, 1, runtime, "bf16", make_scaler("bf16", runtime.device), seed=1, step=0)
    cuts = [slice(0, 5), slice(5, 12)] if apart else [slice(0, 12)]
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.cat([theirs(ids[:, cut]).logits for cut in cuts], dim=1)
    torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
    found = dict(model.hf.named_parameters())
    for key, parameter in theirs.named_parameters():
        if parameter.grad is not None and parameter.grad.norm() > 1e-3:
            off = (found[key].grad - parameter.grad).norm() / parameter.grad.norm()
            assert off < 0.05, f"{key}: {off:.3f}"


def test_its_state_comes_back(folders: dict[str, Path], tmp_path: Path) -> None:
    model = wrapped(folders["PhiForCausalLM"])
    with torch.no_grad():
        model.output_weight.add_(0.5)
    model.save(tmp_path)
    again, ids = wrapped(tmp_path), some_ids()
    assert torch.equal(again.logits(again(ids)), model.logits(model(ids)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["NoSuchForCausalLM"]}, "NoSuchForCausalLM"),
        ({"architectures": ["PhiForSequenceClassification"]}, "PhiForSequenceClassification"),
        ({"architectures": ["X"], "auto_map": {"AutoModelForCausalLM": "x.X"}}, "never run"),
        ({"model_type": "nothing"}, "model type 'nothing', which transformers .* lacks"),
        ({"hidden_size": 36}, "transformers cannot load"),
    ],
)
def test_what_transformers_cannot_load_is_named(
    change: dict[str, Any], said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    for path in folders["PhiForCausalLM"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        load_wrapped(tmp_path)


def test_weights_must_be_whole_and_in_safetensors(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folders["PhiForCausalLM"] / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match="transformers cannot load"):
        load_wrapped(tmp_path)
    tensors = load_file(folders["PhiForCausalLM"] / "model.safetensors")
    gone = sorted(tensors)[3]
    save_file({k: v for k, v in tensors.items() if k != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{gone} is missing"):
        load_wrapped(tmp_path)


@pytest.mark.parametrize("name", ["GPTNeoXForCausalLM", "PhiForCausalLM", "ElectraForMaskedLM"])
def test_weights_that_the_class_does_not_take_are_named(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """Their class would leave whole layers aside without a word."""
    from safetensors.torch import load_file, save_file

    values = json.loads((folders[name] / "config.json").read_text())
    tensors = load_file(folders[name] / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(values))
    aside = {
        "model.layers.0.attention.bias": "a buffer",
        "model.layers.1.attn.masked_bias": "a buffer",
        "x.rotary_emb.inv_freq": "a buffer",
        "x.embeddings.position_ids": "a buffer",
        "electra.pooler.dense.weight": "the pooled first token",
        "mask_predictions.dense.weight": "a head for another task",
    }
    more = {key: torch.ones(2) for key in aside}
    save_file({**tensors, **more}, tmp_path / "model.safetensors", {"format": "pt"})
    model, ids = wrapped(tmp_path), some_ids()
    with torch.no_grad():
        assert torch.equal(model(ids), wrapped(folders[name])(ids))
    assert all(said.startswith(aside[key]) for key, said in model.ignored.items())
    assert "mask_predictions.dense.weight" in model.ignored, "what the class declares to be none is not told of"
    save_file(
        {**tensors, "x.distance_embedding.weight": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=f"{name} of transformers .* has no x.distance_embedding.weight"):
        load_wrapped(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"has no .*layer.*\.1\..* \(and \d+ more\)"):
        load_wrapped(tmp_path)


def test_a_class_that_caps_its_scores_is_refused(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(**_SIZES, **_IDS, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0)
    save(from_config(config), tmp_path)
    with pytest.raises(CheckpointError, match="computes its scores otherwise"):
        load_wrapped(tmp_path)


def test_a_class_that_does_more_with_its_output_matrix_is_refused(tmp_path: Path) -> None:
    config = transformers.EsmConfig(**_SIZES, vocab_size=VOCAB, pad_token_id=1, position_embedding_type="rotary")
    model = transformers.EsmForMaskedLM(config)
    save(model, tmp_path)
    with pytest.raises(CheckpointError, match="EsmForMaskedLM computes its scores otherwise"):
        load_wrapped(tmp_path)


def test_what_is_no_language_model_alone_is_told_by_its_config(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": VOCAB}
    images = transformers.Gemma3Config(text_config={**_SIZES, "num_key_value_heads": 2}, vision_config={})
    for config, name, said in (
        (transformers.BartConfig(**sizes), "BartForConditionalGeneration", "an encoder-decoder"),
        (images, "Gemma3ForConditionalGeneration", r"more than text \(text, vision\)"),
    ):
        values = {**json.loads(config.to_json_string()), "architectures": [name]}
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match=said):
            read_wrapped_config(tmp_path)


def test_a_value_of_a_wrong_kind_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    values = json.loads((folders["PhiForCausalLM"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "hidden_size": "many"}))
    with pytest.raises(CheckpointError, match=r"a wrong kind: .*hidden_size.*many"):
        read_wrapped_config(tmp_path)


@pytest.mark.parametrize(
    ("said", "named", "length"),
    [(10**30, ..., 2048), (600, ..., 600), (True, ..., 2048), ("512", ..., 2048), (600, 4096, 4096)],
)
def test_bloom_names_no_longest_context(
    said: Any, named: Any, length: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    values = json.loads((folders["BloomForCausalLM"] / "config.json").read_text())
    values |= {} if named is ... else {"tilth_context_length": named}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
    config = read_wrapped_config(tmp_path)
    assert config.context_length == length and config.assumed is (named is ...)


def test_a_context_that_cannot_be(folders: dict[str, Path], tmp_path: Path) -> None:
    values = json.loads((folders["BloomForCausalLM"] / "config.json").read_text())
    for named in (-1, "many", True, 0.5):
        (tmp_path / "config.json").write_text(json.dumps({**values, "tilth_context_length": named}))
        with pytest.raises(CheckpointError, match="tilth_context_length is"):
            read_wrapped_config(tmp_path)
    with pytest.raises(RecipeError, match="is made for 40 tokens"):
        load_wrapped(folders["PhiForCausalLM"], context_length=41)
