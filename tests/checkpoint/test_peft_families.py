"""Adapters of every family, and of wrapped classes, through PEFT's format both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import should_convert_module

from tests.model.adapter_helpers import peft_quietly, shake
from tests.model.families import LENGTH, SHAPES, from_config, make, save, some_ids
from tests.model.test_wrapped import CONFIGS
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.checkpoint.peft import save_adapter
from tilth.checkpoint.peft_load import load_adapter
from tilth.checkpoint.peft_names import four_bits
from tilth.checkpoint.tensors import read_tensors
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import adaptable, apply_adapter
from tilth.model.wrapped import load_wrapped

pytestmark = pytest.mark.slow

TIED = ("qwen3", "bert", "gemma2")


def base(name: str) -> Any:
    return from_config(CONFIGS[name]()) if name in CONFIGS else make(name)


def ours(folder: Path, name: str) -> Any:
    model = load_wrapped(folder, context_length=LENGTH) if name in CONFIGS else load_checkpoint(folder)
    return getattr(model, "model", model).eval()


@torch.no_grad()
def scores(model: Any) -> torch.Tensor:
    out = model(some_ids())
    return model.logits(out) if isinstance(out, torch.Tensor) else out.logits


@pytest.mark.parametrize("name", [*(name for name in SHAPES if "-" not in name), *CONFIGS])
def test_adapters_go_both_ways(name: str, tmp_path: Path) -> None:
    folder = save(base(name), tmp_path / "base")
    model = ours(folder, name)
    whole = ["embed_tokens"] if name in TIED else []
    apply_adapter(model, AdapterConfig(rank=3, alpha=6.0, dora=True, modules_to_save=whole), 1)
    plain = scores(model)
    shake(model, by=0.1)
    save_adapter(model, tmp_path / "ours")
    theirs = peft_quietly(peft.PeftModel.from_pretrained, base(name), tmp_path / "ours").eval()
    assert not torch.allclose(scores(model), plain, atol=1e-2)
    torch.testing.assert_close(scores(theirs), scores(model), atol=1e-4, rtol=1e-5)
    peft_quietly(theirs.save_pretrained, tmp_path / "theirs")
    again = ours(folder, name)
    load_adapter(again, tmp_path / "theirs")
    torch.testing.assert_close(scores(again), scores(theirs), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("name", [*(name for name in SHAPES if "-" not in name), *CONFIGS])
def test_what_has_no_adapter_is_named_as_transformers_passes_over_it(name: str, step: int, tmp_path: Path) -> None:
    """Of all linear layers bitsandbytes rounds the rest; a part of a fused one tears it."""
    model = ours(save(base(name), tmp_path / "base"), name)
    targets = adaptable(model)[::step]
    apply_adapter(model, AdapterConfig(rank=2, targets=targets, quantize="nf4"), 1)
    save_adapter(model, tmp_path / "ours")
    tensors = read_tensors(tmp_path / "ours" / "adapter_model.safetensors")
    adapted = {key.removeprefix("base_model.model.").removesuffix(".lora_A.weight") for key in tensors}
    found = four_bits(model)
    assert found is not None
    linear = {path for path, module in base(name).named_modules() if type(module) in (torch.nn.Linear, Conv1D)}
    rounded = {path for path in linear if should_convert_module(path, found.skipped)}
    assert rounded == adapted & linear and set(found.torn) <= rounded
