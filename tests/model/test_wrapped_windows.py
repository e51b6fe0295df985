"""Classes of transformers with sliding windows or chunks: a packed row is as its documents alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from tests.model.families import LENGTH, VOCAB, from_config, save, some_ids
from tilth.core.errors import RecipeError
from tilth.data.batches.loader import Batch
from tilth.distributed.runtime import Runtime
from tilth.model.attention import document_mask
from tilth.model.precision import make_scaler
from tilth.model.wrapped import WrappedModel, load_wrapped
from tilth.model.wrapped_aside import reason_to_ignore
from tilth.model.wrapped_config import WrappedConfig, read_wrapped_config
from tilth.model.wrapped_masks import find_manner
from tilth.training.step import accumulate

pytestmark = pytest.mark.slow

_IDS = {"vocab_size": VOCAB, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
_SIZES = {**_IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
          "max_position_embeddings": LENGTH}  # fmt: skip
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
CONFIGS: dict[str, Any] = {
    "Starcoder2ForCausalLM": lambda: transformers.Starcoder2Config(**_GROUPED, sliding_window=8),
    "Phi3ForCausalLM": lambda: transformers.Phi3Config(**_GROUPED, sliding_window=8),
    "Cohere2ForCausalLM": lambda: transformers.Cohere2Config(
        **_GROUPED, sliding_window=8, layer_types=["sliding_attention", "full_attention"], logit_scale=1.0
    ),
    "Llama4ForCausalLM": lambda: transformers.Llama4TextConfig(
        **_GROUPED, intermediate_size_mlp=48, head_dim=8, num_local_experts=2, attention_chunk_size=8,
        layer_types=["chunked_attention", "full_attention"],
    ),
    "GPTNeoForCausalLM": lambda: transformers.GPTNeoConfig(
        **_IDS, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=LENGTH, window_size=8,
        attention_types=[[["global", "local"], 1]], embed_dropout=0.0, attention_dropout=0.0, resid_dropout=0.0,
    ),
    "ModernBertForMaskedLM": lambda: transformers.ModernBertConfig(
        **_SIZES, cls_token_id=2, sep_token_id=3, local_attention=9, global_attn_every_n_layers=2
    ),
}  # fmt: skip
TURNS = {
    "longrope": {
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 16,
        "factor": 2.0,
    },
    "dynamic": {"factor": 4.0},
    "linear": {"factor": 2.0},
}
CUTS = slice(0, 17), slice(17, LENGTH)


def model_of(name: str, length: int = LENGTH) -> WrappedModel:
    hf = from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for parameter in hf.parameters():  # as freshly drawn, what a token sees hardly matters
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    return wrapped(hf, name, length)


def wrapped(hf: Any, name: str, length: int) -> WrappedModel:
    causal = "Causal" in name
    output = hf.get_output_embeddings().weight
    config = WrappedConfig(
        architecture=name, model_type=hf.config.model_type, vocab_size=VOCAB, context_length=length,
        num_hidden_layers=2, hidden_size=32, mlp_size=48, is_causal=causal, takes_documents=True,
        tie_word_embeddings=output is hf.get_input_embeddings().weight, parameters=1, values={},
    )  # fmt: skip
    return WrappedModel(hf, config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_packed_row_has_the_loss_of_its_documents_alone(name: str) -> None:
    """Of transformers' own class, which makes its windows by itself where it is given no mask."""
    model, ids, labels = model_of(name), some_ids(1), some_ids(1, LENGTH, seed=9)
    places = np.array([[*range(17), *range(LENGTH - 17)]])
    documents = np.array([[1] * 17 + [2] * (LENGTH - 17)], np.int32)
    batch = Batch(ids.numpy(), labels.numpy(), np.arange(1), documents, places, model.config.is_causal)
    runtime = Runtime(torch.device("cpu"))
    packed = accumulate(model, batch, 1, runtime, "fp32", make_scaler("fp32", runtime.device), seed=1, step=0)
    gradient = model.output_weight.grad.clone()  # type: ignore[union-attr]
    model.zero_grad()
    logits = torch.cat([model.hf(ids[:, cut]).logits for cut in CUTS], dim=1)
    alone = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    alone.backward()  # type: ignore[no-untyped-call]
    assert packed == pytest.approx(float(alone.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, model.output_weight.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_windows_matter_and_are_as_they_were_after_it_was_tried(name: str) -> None:
    model, ids = model_of(name), some_ids(1)
    config = model.hf.config
    before, alone = config.to_dict(), model(ids)
    assert model.packs and config.to_dict() == before and torch.equal(model(ids), alone)
    if name != "GPTNeoForCausalLM":  # which has its window in a buffer
        for key in ("sliding_window", "attention_chunk_size"):
            if getattr(config, key, None):
                setattr(config, key, LENGTH)
        assert (model(ids) - alone).abs().max() > 0.01 * alone.abs().max()


@pytest.mark.parametrize("kind", TURNS)
@torch.no_grad()
def test_positions_that_turn_by_the_length_of_a_row_are_not_packed(tmp_path: Path, kind: str) -> None:
    """What the seven tokens of the trial, all within the shorter length, cannot show."""
    said = {"rope_type": kind, "rope_theta": 10_000.0, **TURNS[kind]}
    hf = from_config(transformers.LlamaConfig(**{**_GROUPED, "max_position_embeddings": 16}, rope_scaling=said)).eval()
    config = read_wrapped_config(save(hf, tmp_path))
    model, ids = WrappedModel(hf, config), some_ids(1)
    same = torch.allclose(hf(ids).logits[:, :8], hf(ids[:, :8]).logits, atol=1e-5)
    assert same == (kind == "linear") == model.packs == config.takes_documents


_STATES = {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
FRESH: dict[str, Any] = {
    "Lfm2ForCausalLM": lambda: transformers.Lfm2Config(**_GROUPED, layer_types=["conv", "full_attention"]),
    "FalconH1ForCausalLM": lambda: transformers.FalconH1Config(**_GROUPED, **_STATES, mamba_d_ssm=32, mamba_d_head=8),
    "BambaForCausalLM": lambda: transformers.BambaConfig(
        **_GROUPED, **_STATES, attn_layer_indices=[1], mamba_d_head=16
    ),
    "Lfm2MoeForCausalLM": lambda: transformers.Lfm2MoeConfig(
        **_GROUPED, layer_types=["full_attention", "conv"], moe_intermediate_size=16, num_experts=4, num_dense_layers=1
    ),
    "JambaForCausalLM": lambda: transformers.JambaConfig(
        **_GROUPED, attn_layer_period=2, attn_layer_offset=1, num_experts=4, use_mamba_kernels=False
    ),
    "MiniMaxForCausalLM": lambda: transformers.MiniMaxConfig(
        **_GROUPED, num_local_experts=4, block_size=8, layer_types=["linear_attention", "full_attention"]
    ),
    "MixtralForCausalLM": lambda: transformers.MixtralConfig(**_GROUPED, num_local_experts=4, sliding_window=None),
}


@pytest.mark.parametrize("name", FRESH)
def test_what_carries_a_state_over_is_refused_as_freshly_drawn_too(name: str, tmp_path: Path) -> None:
    """Where documents reach each other by a thousandth only; from a folder, whose config.json may hold infinities."""
    hf = from_config(FRESH[name]())
    hf.save_pretrained(tmp_path)
    model = load_wrapped(tmp_path)
    ids = some_ids(1)
    torch.testing.assert_close(model.logits(model(ids)), hf.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    assert model.packs == (name == "MixtralForCausalLM")


@pytest.mark.parametrize("seed", range(3))
def test_the_rounding_of_a_deep_mixture_of_experts_is_no_state(seed: int) -> None:
    """Beside other tokens experts sum up in another order, and every layer makes more of it."""
    torch.manual_seed(seed)
    sizes = {**_GROUPED, "hidden_size": 64, "num_hidden_layers": 94, "initializer_range": 0.3}
    hf = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**sizes, num_local_experts=4, sliding_window=None)
    ).eval()
    assert wrapped(hf, "MixtralForCausalLM", LENGTH).packs


def test_a_window_that_no_row_exceeds_costs_no_second_mask() -> None:
    model = model_of("Cohere2ForCausalLM", length=8)
    tried: list[Any] = []
    manner = find_manner(model.hf, 8, lambda *asked: not tried.append(asked))  # type: ignore[func-returns-value]
    assert manner == "whole" and tried == [("whole", 3, 4)]


class FixedWindow(nn.Module):
    """Attention of a window that stands in the layer, to which a mask that is given comes instead."""

    config = SimpleNamespace(sliding_window=8)


def test_a_class_whose_window_cannot_be_narrowed_is_tried_by_longer_documents() -> None:
    """Seven tokens alone would not show that its window is lost."""
    tried: list[tuple[str, int, int]] = []

    def apart(manner: str, first: int, second: int) -> bool:
        tried.append((manner, first, second))
        return manner == "whole" and second <= 8

    assert find_manner(FixedWindow(), LENGTH, apart) is None
    assert tried[-1] == ("whole", 3, 10) and FixedWindow.config.sliding_window == 8


def test_a_class_that_loses_its_window_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that is narrower than the window by one key is such a loss."""
    monkeypatch.setattr(
        "tilth.model.wrapped_masks._within", lambda seen, window, causal: seen.tril().triu(1 - window // 2)
    )
    model = model_of("Starcoder2ForCausalLM")
    with pytest.raises(RecipeError, match="Starcoder2ForCausalLM does not keep the documents of a row apart"):
        model(some_ids(1), mask=document_mask(torch.zeros(1, LENGTH)))


def test_layers_that_guess_ahead_are_known_by_their_place() -> None:
    """DeepSeek V3 and its like have them behind the others, in files of any size."""
    values = {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    for name, ahead in (
        ("model.layers.2.eh_proj.weight", True),
        ("model.layers.1.mlp.x", False),
        ("layers.3.a", False),
    ):
        assert (reason_to_ignore(name, values) is not None) == ahead
    assert reason_to_ignore("model.layers.2.eh_proj.weight", {"num_hidden_layers": 2}) is None
