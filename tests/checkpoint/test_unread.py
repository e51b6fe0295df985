"""A base beside which an adapter comes is read matrix by matrix: the same bits as of one that was there whole, and
never the memory of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.model.families import make, save
from tilth.checkpoint.hf_weights import load_checkpoint, load_later
from tilth.checkpoint.tensors import write_tensors
from tilth.checkpoint.trainable import base_fingerprint
from tilth.core.config import parse
from tilth.core.errors import CheckpointError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, matrices
from tilth.model.families import read_hf_config
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import Transformer, build
from tilth.model.unread import is_unread, read_rest

ADAPTERS: dict[str, tuple[dict[str, Any], torch.dtype | None]] = {
    "nf4": ({"quantize": "nf4", "double_quantize": True}, torch.bfloat16),
    "nf4, dora": ({"quantize": "nf4", "double_quantize": False, "dora": True}, None),
    "bf16": ({"dora": True}, torch.bfloat16),
    "fp16, some layers": (
        {"targets": ["q_proj", "down_proj"], "modules_to_save": ["layers.0.mlp.up_proj"]},
        torch.half,
    ),
    "fp32": ({}, None),
}


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = state(one), state(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name
        assert tensor.requires_grad == theirs[name].requires_grad, name


def later(folder: Path) -> Transformer:
    return load_later(folder, read_hf_config(folder).config, "cpu", foreign=True)


@pytest.fixture(scope="module", params=[("gpt2", "F32"), ("llama", "BF16"), ("llama", "F64"), ("bert", "F16")], ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names, types, transposed and merged matrices that differ."""
    name, dtype = request.param
    kind = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.half, "F64": torch.float64}[dtype]
    return save(make(name).to(kind), tmp_path_factory.mktemp("base") / name)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_finds_the_same_bits(folder: Path, name: str) -> None:
    values, dtype = ADAPTERS[name]
    config, whole, late = parse(AdapterConfig, {"rank": 2, **values}), load_checkpoint(folder).model, later(folder)
    unread = [name for name, parameter in late.named_parameters() if is_unread(parameter)]
    assert unread == [name for name in matrices(whole) if name in unread] and len(unread) == len(matrices(whole))
    held = sum(parameter.untyped_storage().nbytes() for parameter in late.parameters())
    assert held == sum(4 * (1 if is_unread(parameter) else parameter.numel()) for parameter in late.parameters())
    for model in (whole, late):
        resize_embeddings(model, model.config.vocabulary + 2, seed=3)
    assert base_fingerprint(late) == base_fingerprint(whole), "also with rows for new tokens"
    for model in (whole, late):
        apply_adapter(model, config, 1, dtype=dtype)
    assert_same(whole, late)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(whole.eval().float()(ids), late.eval().float()(ids))


def test_what_no_adapter_takes_is_read_all_the_same(folder: Path) -> None:
    late = later(folder)
    assert not bool(torch.isfinite(late(torch.tensor([[5, 6, 7]]))).any()), "until then it computes nothing"
    read_rest(late)
    assert {name: p.shape for name, p in late.named_parameters()} and not any(map(is_unread, late.parameters()))
    whole = load_checkpoint(folder).model.requires_grad_(False)
    assert_same(late.requires_grad_(False), whole)


def test_a_model_of_tilths_own_is_read_so_too(tmp_path: Path, folder: Path) -> None:
    whole = build(read_hf_config(folder).config, 5)
    write_tensors(tmp_path / "model.safetensors", whole.state_dict())
    late = load_later(tmp_path, whole.config, "cpu", foreign=False)
    assert base_fingerprint(late) == base_fingerprint(whole)
    for model in (whole, late):
        apply_adapter(model, AdapterConfig(rank=2, quantize="nf4"), 1)
    assert_same(whole, late)
    other = whole.config.model_copy(update={"num_hidden_layers": 1})
    with pytest.raises(CheckpointError, match="is unknown"):
        load_later(tmp_path, other, "cpu", foreign=False)


def test_numbers_that_are_none_are_told_before_an_adapter_asks(tmp_path: Path) -> None:
    place = save(make("gpt2"), tmp_path / "base")
    tensors = load_file(place / "model.safetensors")
    name = next(name for name in tensors if name.endswith("c_fc.weight"))
    tensors[name][1, 1] = float("inf")
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{name} holds what is no finite number"):
        later(place)


PROGRAM = """
import sys
from pathlib import Path
import torch
from tilth.checkpoint.hf_weights import load_later
from tilth.checkpoint.trainable import base_fingerprint
from tilth.core.environment import forget_peak_memory, held_memory_bytes, peak_memory_bytes
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.families import read_hf_config
def take(folder, quantize):
    model = load_later(folder, read_hf_config(folder).config, "cpu", foreign=True)
    base_fingerprint(model)
    apply_adapter(model, AdapterConfig(rank=2, quantize=quantize), 1, dtype=torch.bfloat16)
    return model
small, large, quantize = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None
take(small, quantize)
before = held_memory_bytes()
forget_peak_memory()
model = take(large, quantize)
print(peak_memory_bytes() - before, sum(p.numel() for p in model.parameters() if not p.requires_grad))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be measured on Linux only")
@pytest.mark.parametrize(("quantize", "most"), [("nf4", 2.0), ("", 2.6)])
def test_the_base_is_never_there_in_fp32(tmp_path: Path, quantize: str, most: float) -> None:
    """117 million numbers in matrices of 4 million: in fp32 470 MB, in bf16 235, in four bits 62; one alone 17 MB."""
    small = save(make("llama").to(torch.bfloat16), tmp_path / "small")
    (large := tmp_path / "large").mkdir()
    changes = {"hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 4, "head_dim": 512}
    config = json.loads((small / "config.json").read_text()) | changes | {"num_key_value_heads": 4}
    (large / "config.json").write_text(json.dumps(config))
    from tilth.checkpoint.hf_weights import slots

    hf = read_hf_config(large)
    weights = {name: torch.ones(slot.shape, dtype=torch.bfloat16) for name, slot in slots(hf.config, hf.family).items()}
    save_file(weights, large / "model.safetensors")
    numbers = sum(tensor.numel() for name, tensor in weights.items() if name.endswith("proj.weight"))
    words = [sys.executable, "-c", PROGRAM, str(small), str(large), quantize]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert numbers > 115e6
    grown, _ = map(int, done.stdout.split())
    assert grown < most * numbers
