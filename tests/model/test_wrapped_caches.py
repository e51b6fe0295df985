"""Classes of transformers that keep their state otherwise than a cache of keys and values: they generate the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.model.families import LENGTH, VOCAB, from_config, save
from tilth.core.errors import CheckpointError
from tilth.generate.config import SamplingConfig
from tilth.generate.engine import generate_ids
from tilth.generate.prefix_cache import Memory
from tilth.model.wrapped import CacheManner, WrappedModel, load_wrapped

pytestmark = pytest.mark.slow

_IDS: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
_SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "intermediate_size": 64, "max_position_embeddings": LENGTH}  # fmt: skip
_STATES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
_HEADS: dict[str, Any] = {"num_heads": 8, "head_dim": 8, "n_groups": 1}
CONFIGS: dict[str, Any] = {
    "Mamba": lambda: transformers.MambaConfig(**_STATES, **_IDS),
    "Mamba2": lambda: transformers.Mamba2Config(**_STATES, **_HEADS, **_IDS),
    "FalconMamba": lambda: transformers.FalconMambaConfig(**_STATES, **_IDS),
    "Rwkv": lambda: transformers.RwkvConfig(
        hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, intermediate_size=64, **_IDS
    ),
    "Bamba": lambda: transformers.BambaConfig(
        **_SIZES, **_IDS, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1
    ),
    "MiniMax": lambda: transformers.MiniMaxConfig(
        **_SIZES, **_IDS, head_dim=8, num_local_experts=4, layer_types=["linear_attention", "full_attention"]
    ),
    "Jamba": lambda: transformers.JambaConfig(
        **_SIZES, **_IDS, num_experts=4, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8
    ),
}
MANNERS = {
    "Bamba": CacheManner(counted=True),
    "Jamba": CacheManner(goes_on=False),
    "Mamba": CacheManner(goes_on=False),
    "FalconMamba": CacheManner(goes_on=False),
    "Mamba2": CacheManner(),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WrappedModel]:
    folders = {name: save(from_config(make()), tmp_path_factory.mktemp(name)) for name, make in CONFIGS.items()}
    return {name: load_wrapped(folder, context_length=LENGTH).eval() for name, folder in folders.items()}


@torch.no_grad()
def theirs(model: WrappedModel, prompt: list[int], count: int) -> list[int]:
    """What transformers' class takes for the likeliest when it reads all tokens again for each."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def ours(model: WrappedModel, prompt: list[int], memory: Memory | None = None) -> list[int | None]:
    greedy = SamplingConfig(temperature=0.0)
    return [row[0] for row in generate_ids(model, prompt, greedy, max_new_tokens=12, memory=memory)]


@pytest.mark.parametrize("name", CONFIGS)
def test_generation_is_that_of_reading_all_tokens(
    name: str, models: dict[str, WrappedModel], caplog: pytest.LogCaptureFixture
) -> None:
    model = models[name]
    assert ours(model, [5, 6, 7]) == theirs(model, [5, 6, 7], 12)
    assert model.new_cache(1, LENGTH).manner == MANNERS.get(name)
    said = [record.message for record in caplog.records if "reads all tokens again" in record.message]
    assert len(said) == (name not in MANNERS)
    assert all(("takes no cache of ours" in text) == (name == "Rwkv") for text in said)


@pytest.mark.parametrize("name", ["Mamba", "Rwkv"])
def test_generation_is_that_of_generate(name: str, models: dict[str, WrappedModel]) -> None:
    model = models[name]
    model.hf.generation_config.eos_token_id = None
    expected = model.hf.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False)
    assert ours(model, [5, 6, 7]) == expected[0, 3:].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_conversation_goes_on_as_if_read_anew(name: str, models: dict[str, WrappedModel]) -> None:
    model, memory = models[name], Memory()
    first = [id_ for id_ in ours(model, [5, 6, 7], memory) if id_ is not None]
    for prompt in ([5, 6, 7, *first, 8, 9, 10], [5, 6, 7, *first[:4], 11, 12]):
        assert ours(model, prompt, memory) == theirs(model, prompt, 12)


def test_a_class_that_caps_small_scores_is_refused(tmp_path: Path) -> None:
    """A cap of 30 changes scores about 0.1 by less than a thousandth."""
    transformers.set_seed(1)
    hf = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**_SIZES, **_IDS, head_dim=8))
    hf.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="computes its scores otherwise"):
        load_wrapped(tmp_path)


def test_a_class_that_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(from_config(CONFIGS["Mamba"]()), tmp_path)

    def fails(*_given: Any, **_named: Any) -> None:
        raise ValueError("heads do not divide")

    monkeypatch.setattr(transformers.MambaForCausalLM, "forward", fails)
    with pytest.raises(CheckpointError, match="MambaForCausalLM cannot read five tokens: heads do not divide"):
        load_wrapped(tmp_path)
