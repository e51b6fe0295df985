"""Models held in bfloat16: the same numbers where they are stored so, half the memory, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tilth
from tests.jobs.bases import write_base
from tests.jobs.test_load import IDS, TEXT, folder_of
from tests.model.families import SHAPES, from_config, save
from tilth.cli.main import app
from tilth.core.errors import RecipeError
from tilth.generate.decode import Decoder, reader_of
from tilth.jobs import load as module
from tilth.jobs.load import held_in
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, lora_layers, quantize_layers
from tilth.tokenizer import TokenizerConfig, train_tokenizer

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose weights are stored in bfloat16."""
    folder, values = tmp_path_factory.mktemp("half"), {**SHAPES["llama3"][2], "vocab_size": 260}
    save(from_config(transformers.LlamaConfig(**values)).bfloat16(), folder)
    train_tokenizer(TokenizerConfig(kind="byte"), [TEXT]).save(folder)
    return folder


def test_what_is_stored_so_loses_nothing(stored: Path) -> None:
    half, whole = tilth.load(stored, dtype="bfloat16", device="cpu"), tilth.load(stored, device="cpu")
    for one, other in zip(half.model.parameters(), whole.model.parameters(), strict=True):
        assert one.dtype == torch.bfloat16 and torch.equal(one.float(), other)
    given, wanted = half.logits(IDS), whole.logits(IDS)
    assert given.dtype == np.float32 and np.sqrt(np.square(given - wanted).mean()) < 0.03 * wanted.std()
    assert half.generate(TEXT, max_new_tokens=20, seed=3) == half.generate(TEXT, max_new_tokens=20, seed=3) != ""


def test_the_command_writes_what_the_function_does(stored: Path) -> None:
    wanted = tilth.load(stored, dtype="bfloat16").generate("the soil", max_new_tokens=12, temperature=0)
    words = ["generate", str(stored), "--prompt", "the soil", "--dtype", "bfloat16", "--temperature", "0"]
    done = CliRunner().invoke(app, [*words, "--max-new-tokens", "12"])
    end = wanted.strip()[-8:]  # before it is a control character, which the command shows otherwise
    assert done.exit_code == 0 and len(end) == 8 and end in done.stdout, (done.output, wanted)


def test_an_adapter_beside_it(stored: Path) -> None:
    whole = tilth.load(stored, device="cpu")
    half = tilth.load(stored, dtype="bfloat16", device="cpu")
    for found in (whole, half):
        apply_adapter(found.model, AdapterConfig(rank=4), seed=1)
        for layer in lora_layers(found.model).values():
            for part in layer.adapters.values():
                part.get_parameter("lora_B").data.fill_(0.02)
        found.model.eval()
    half.model.bfloat16()
    assert isinstance(reader_of(half.model, 1), Decoder)
    wanted, given = whole.logits(IDS), half.logits(IDS)
    assert np.sqrt(np.square(given - wanted).mean()) < 0.05 * wanted.std()
    assert half.generate("the soil", max_new_tokens=4)


def test_four_bits_stay_four_bits(stored: Path) -> None:
    found = tilth.load(stored, device="cpu")
    config = AdapterConfig(rank=4, quantize="nf4")
    apply_adapter(found.model, config, seed=1)
    quantize_layers(found.model, config)
    found.model.eval()
    before, wanted = {p.dtype for p in found.model.state_dict().values()}, found.logits(IDS)
    half = held_in(torch.bfloat16, found)
    assert torch.uint8 in before and torch.uint8 in {p.dtype for p in half.model.state_dict().values()}
    assert np.sqrt(np.square(half.logits(IDS) - wanted).mean()) < 0.05 * wanted.std()


def test_what_is_refused(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(RecipeError, match=r"dtype 'float16' is not known") as refused:
        tilth.load(stored, dtype="float16")  # type: ignore[arg-type]
    assert "bfloat16" in refused.value.remedy


def test_classes_of_transformers_are_refused_before_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = folder_of("llama3", tmp_path / "base")
    adapter = {"r": 2, "lora_alpha": 4, "peft_type": "LORA", "target_modules": ["q_proj"]}
    said = {
        "from": str(base),
        "fingerprint": "",
        "context_length": 16,
        "seed": 1,
        "special_tokens": [],
        "wrapped": True,
    }
    for name, beside in (("theirs", {}), ("run", {"base.json": {**said, "adapter": {}}})):
        (tmp_path / name).mkdir()
        for file, values in {"adapter_config.json": adapter, "config.json": {}, **beside}.items():
            (tmp_path / name / file).write_text(json.dumps(values))
    for function in ("wrapped_model", "base_model"):
        monkeypatch.setattr(module, function, None)
    ways: list[dict[str, Any]] = [
        {"path": base, "wrapped": True},
        {"path": base, "wrapped": True, "adapter": tmp_path / "theirs"},
        {"path": base, "adapter": tmp_path / "run"},
        {"path": tmp_path / "run"},
        {"path": tmp_path / "run", "adapter": tmp_path / "theirs"},
    ]
    for way in ways:
        with pytest.raises(RecipeError, match="transformers' own class") as refused:
            tilth.load(**way, dtype="bfloat16")
        assert refused.value.remedy == "leave dtype out (bfloat16)"


@pytest.mark.slow
def test_it_takes_half_the_memory(tmp_path: Path) -> None:
    """150 MB in fp32, read in a process of its own; from a file of bfloat16 no fp32 copy is ever made."""
    values = {**SHAPES["llama3"][2], "vocab_size": 260, "hidden_size": 512, "intermediate_size": 2048}
    values |= {"num_hidden_layers": 9, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}
    save(from_config(transformers.LlamaConfig(**values)).bfloat16(), tmp_path)
    train_tokenizer(TokenizerConfig(kind="byte"), [TEXT]).save(tmp_path)
    told = "import sys, tilth\nfrom tilth.core.environment import held_memory_bytes, peak_memory_bytes\n"
    told += "tilth.load; import tilth.jobs.load\nbefore = held_memory_bytes()\n"
    told += "found = tilth.load(sys.argv[1], dtype=sys.argv[2], device='cpu')\n"
    told += "print(peak_memory_bytes() - before, sum(p.numel() for p in found.model.parameters()))"
    peaks = {}
    for dtype in ("float32", "bfloat16"):
        done = subprocess.run([sys.executable, "-c", told, str(tmp_path), dtype], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peak, numbers = map(int, done.stdout.split())
        peaks[dtype] = peak / numbers
    assert peaks["bfloat16"] < 3.2 and peaks["float32"] > 3.9, peaks


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_each_weight_goes_out_in_the_type_in_which_it_was_stored(tmp_path: Path, kind: str) -> None:
    """What published files carry beside (frequencies, masks) has no say, and norms in fp32 stay so."""
    folder = write_base(tmp_path / "base", kind)
    tensors = {name: tensor if "norm" in name else tensor.half() for name, tensor in load_file(folder / MODEL).items()}
    beside = {f"gpt_neox.layers.{layer}.attention.bias": torch.ones(8, 8, dtype=torch.bool) for layer in range(2)}
    if kind == "llama":
        beside = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file({**tensors, **beside}, folder / MODEL, {"format": "pt"})
    tilth.export(folder, tmp_path / "out")
    written = load_file(tmp_path / "out" / MODEL)
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert written[name].dtype == tensor.dtype and torch.equal(written[name], tensor), name
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (values.get("dtype") or values["torch_dtype"]) == "float16"


@pytest.mark.parametrize("kind", ["neox", "bloom"])
def test_what_two_names_share_stays_as_wide_as_it_was(tmp_path: Path, kind: str) -> None:
    """The output matrix of a tied model is its embedding, though the file names it once."""
    folder = write_base(tmp_path / "base", kind)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    named = {name: tensor for name, tensor in load_file(folder / MODEL).items() if not name.startswith("embed_out")}
    tensors = {name: tensor if "embed" in name else tensor.half() for name, tensor in named.items()}
    save_file(tensors, folder / MODEL, {"format": "pt"})
    tilth.export(folder, tmp_path / "out")
    written = load_file(tmp_path / "out" / MODEL)
    for name, tensor in tensors.items():
        assert written[name].dtype == tensor.dtype and torch.equal(written[name], tensor), name
