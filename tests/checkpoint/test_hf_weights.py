"""Weights from elsewhere: real faults of files, each named before anything is allocated; and how much memory it
takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.families import difference, make, save
from tilth.checkpoint import hf_weights
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.core.errors import CheckpointError


@pytest.fixture(scope="module")
def llama() -> Any:
    return make("llama")


@pytest.fixture
def folder(llama: Any, tmp_path: Path) -> Path:
    return save(llama, tmp_path / "one")


@pytest.fixture
def shards(llama: Any, tmp_path: Path) -> Path:
    return save(llama, tmp_path / "many", max_shard_size="60KB")


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def assert_refused(folder: Path, *said: str) -> None:
    """The error names it, and nothing was built."""
    built: list[object] = []
    original = hf_weights.build
    hf_weights.build = lambda *a, **k: built.append(a)  # type: ignore[assignment,return-value]
    try:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(folder)
    finally:
        hf_weights.build = original
    assert not built and caught.value.remedy
    for part in said:
        assert part in caught.value.message


def test_shards_load_like_one_file(llama: Any, shards: Path) -> None:
    assert len(list(shards.glob("*.safetensors"))) > 2
    assert difference(llama, load_checkpoint(shards).model.eval()) < 1e-4


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.norm.weight"), "model.norm.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "extra is unknown"),
        (lambda t: t.update({UP: torch.zeros(80, 49)}), f"{UP} is [80, 49], not [80, 48]"),
        (lambda t: t.update({UP: torch.zeros(48, 80)}), f"{UP} is [48, 80], not [80, 48]"),
        (lambda t: t.update({UP: torch.zeros(80, 48, dtype=torch.int8)}), f"{UP} is of the type I8"),
        (lambda t: [t.pop(n) for n in list(t) if "layers.2" in n], "(and 4 more)"),
    ],
)
def test_tensors_that_are_not_those_of_the_config(folder: Path, change: Any, said: str) -> None:
    edit(folder, change)
    assert_refused(folder, said)


def test_a_config_that_claims_more_than_there_is(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 9999}))
    assert_refused(folder, "config.json is of 185,270,832", "parameters, and the files beside it hold 64,944")


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(path: Path, entries: object, data: bytes, length: int | None = None) -> None:
    text = json.dumps(entries).encode()
    path.write_bytes((length if length is not None else len(text)).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e[UP].update(shape=[10**7, 10**7]), "takes another number"),
        (lambda e: e[UP].update(shape=[10**7, 10**7], data_offsets=[0, 4 * 10**14]), "does not begin where"),
        (lambda e: e[UP].update(shape=[-80, -48]), "has the shape [-80, -48]"),
        (lambda e: e[UP].update(dtype="F4"), "of the type 'F4'"),
        (lambda e: e[UP].update(data_offsets=[0, 80 * 48 * 4]), "does not begin where"),
        (lambda e: e.update({UP: 3}), "damaged"),
        (lambda e: e[UP].pop("shape"), "'shape'"),
    ],
)
def test_headers_that_lie(folder: Path, change: Any, said: str) -> None:
    path = folder / "model.safetensors"
    entries, data = header(path)
    change(entries)
    rewrite(path, entries, data)
    assert_refused(folder, "model.safetensors is no safetensors file, or damaged", said)


@pytest.mark.parametrize(
    ("make_file", "said"),
    [
        (lambda p, e, d: rewrite(p, e, d, 1 << 60), "the header claims 1,152,921,504,606,846,976 bytes"),
        (lambda p, e, d: rewrite(p, e, d[:-7]), "its tensors end at byte"),
        (lambda p, e, d: rewrite(p, e, d + b"more"), "its tensors end at byte"),
        (lambda p, e, d: rewrite(p, [1], b""), "no mapping"),
        (lambda p, e, d: p.write_bytes(b"abc"), "the header claims"),
        (lambda p, e, d: p.write_bytes(b""), "the header claims"),
    ],
)
def test_files_that_are_cut_or_none(folder: Path, make_file: Any, said: str) -> None:
    path = folder / "model.safetensors"
    make_file(path, *header(path))
    assert_refused(folder, said)


def test_a_shard_that_is_gone_is_named(shards: Path) -> None:
    gone = sorted(shards.glob("model-*"))[1]
    gone.unlink()
    assert_refused(shards, gone.name, "is missing")


def test_an_index_that_lies(shards: Path) -> None:
    index = shards / "model.safetensors.index.json"
    table = json.loads(index.read_text())["weight_map"]
    first, *_, last = sorted(set(table.values()))
    for changed, said in (
        ({**table, "model.more": first}, f"{first} lacks model.more"),
        ({**table, "model.norm.weight": "../outside.safetensors"}, "leads out of"),
        ({}, "is damaged"),
        ({"a": 3}, "is damaged"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        assert_refused(shards, said)
    index.write_text(json.dumps({"weight_map": table}))
    save_file({"model.norm.weight": torch.zeros(48), **load_file(shards / first)}, shards / first)
    assert "model.norm.weight" in load_file(shards / last)
    assert_refused(shards, "model.norm.weight is in")


def test_pickles_are_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "has neither")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert_refused(folder, "only as pickles (pytorch_model.bin)")


def test_names_of_other_writers_and_what_is_left_aside(tmp_path: Path) -> None:
    gpt2, bert = make("gpt2"), make("bert")
    one, two = save(gpt2, tmp_path / "gpt2"), save(bert, tmp_path / "bert")
    edit(one, lambda t: t.update({n.removeprefix("transformer."): t.pop(n) for n in list(t)}))  # as openai's own
    edit(one, lambda t: t.update({"h.0.attn.bias": torch.ones(1, 1, 40, 40)}))
    found = load_checkpoint(one)
    assert difference(gpt2, found.model.eval()) < 1e-4
    assert found.ignored == {"transformer.h.0.attn.bias": "a causal mask is no weight"}

    def old(tensors: dict[str, torch.Tensor]) -> None:  # as google's own
        for name in [name for name in tensors if "LayerNorm" in name]:
            tensors[name.replace("weight", "gamma").replace("bias", "beta")] = tensors.pop(name)
        tensors["bert.pooler.dense.weight"] = torch.zeros(48, 48)
        tensors["cls.seq_relationship.bias"] = torch.zeros(2)
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()

    edit(two, old)
    found = load_checkpoint(two)
    assert difference(bert, found.model.eval()) < 1e-4
    assert found.ignored.keys() == {
        "bert.pooler.dense.weight", "cls.seq_relationship.bias", "cls.predictions.decoder.weight",
    }  # fmt: skip


def test_tied_weights_that_differ_are_refused(tmp_path: Path) -> None:
    folder = save(make("qwen3"), tmp_path / "qwen3")
    edit(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert load_checkpoint(folder).ignored == {"lm_head.weight": "it repeats model.embed_tokens.weight"}
    edit(folder, lambda t: t["lm_head.weight"].mul_(1.1))
    assert_refused(folder, "lm_head.weight and model.embed_tokens.weight differ")


PROGRAM = """
import sys, torch
from pathlib import Path
from tilth.checkpoint.hf_weights import load_checkpoint
torch.set_num_threads(1)
def memory(key):
    return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) * 1024
load_checkpoint(Path(sys.argv[1]))
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
model = load_checkpoint(Path(sys.argv[2])).model
print(memory("VmHWM") - before, sum(p.numel() * 4 for p in model.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be measured on Linux only")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_second_copy_in_memory(dtype: torch.dtype, folder: Path, tmp_path: Path) -> None:
    """90 MB of weights, the largest tensor 64 MB: loading takes them and a piece, not them twice."""
    large = tmp_path / "large"
    large.mkdir()
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 1024, "intermediate_size": 512, "vocab_size": 16384, "tie_word_embeddings": True,
               "num_hidden_layers": 2, "head_dim": 128}  # fmt: skip
    (large / "config.json").write_text(json.dumps(config))
    from tilth.model.families import read_hf_config

    plan = hf_weights.slots(read_hf_config(large).config, read_hf_config(large).family)
    save_file({name: torch.zeros(slot.shape, dtype=dtype) for name, slot in plan.items()}, large / "model.safetensors")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM, str(folder), str(large)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    grown, size = map(int, done.stdout.split())
    assert size > 85 << 20
    assert size <= grown < size + (48 << 20)
