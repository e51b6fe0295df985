"""Checkpoints that are broken, hostile or not there, named in `model.from`: each is told by file and remedy before data
is prepared, and no run folder is begun. Of families that tilth has, and of classes that only transformers has."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.helpers import hashes

SINGLE = "model.safetensors"


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        place = folder / "config.json"
        place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))

    return change


def with_code(folder: Path) -> None:
    config(model_type="strange", architectures=["X"], auto_map={"AutoModelForCausalLM": "x.X"})(folder)
    (folder / "x.py").write_text("raise SystemExit('the code of a checkpoint ran')")


def lost_shard(folder: Path) -> None:
    tensors = load_file(folder / SINGLE)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / shard, {"format": "pt"})
    index = {"weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    del tensors
    (folder / SINGLE).unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()


def take(folder: Path) -> dict[str, torch.Tensor]:
    """Takes the weights out of a folder."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / SINGLE).items()}
    (folder / SINGLE).unlink()
    return tensors


def change_values(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = take(folder)
    name = next(name for name in tensors if name.endswith("layers.1.self_attn.v_proj.weight"))
    tensors[name] = change(tensors[name])
    save_file(tensors, folder / SINGLE, {"format": "pt"})


def in_eight_bits(folder: Path) -> None:
    change_values(folder, lambda tensor: tensor.to(torch.int8))


def wrong_shape(folder: Path) -> None:
    change_values(folder, lambda tensor: tensor[:-1].clone())


def terabytes(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (folder / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header)


def endless_header(folder: Path) -> None:
    (folder / SINGLE).write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


def pickle_only(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes()[:-8])


def empty(folder: Path) -> None:
    (folder / SINGLE).write_bytes(b"")


def out_of_the_folder(folder: Path) -> None:
    index = {"weight_map": dict.fromkeys(load_file(folder / SINGLE), f"../base/{SINGLE}")}
    (folder / f"{SINGLE}.index.json").write_text(json.dumps(index))
    (folder / SINGLE).rename(folder / "moved")


def fewer_ids(folder: Path) -> None:
    tensors = {
        name: t[:300].clone() if t.shape[0] == 512 else t.clone() for name, t in load_file(folder / SINGLE).items()
    }
    (folder / SINGLE).unlink()
    save_file(tensors, folder / SINGLE, {"format": "pt"})
    config(vocab_size=300)(folder)


BROKEN: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "code": (with_code, ("base/config.json", "'strange'", "auto_map", "never run")),
    "architecture": (config(architectures=["NoSuch"]), ("base/config.json", "NoSuch")),
    "shard": (lost_shard, ("base/model-00002-of-00002.safetensors is missing",)),
    "shape": (wrong_shape, ("base", "layers.1.self_attn.v_proj.weight is [")),
    "terabytes": (terabytes, ("base/model.safetensors", "4,000,000,000,093")),
    "header": (endless_header, ("base/model.safetensors", "the header claims")),
    "pickle": (pickle_only, ("base has", "pytorch_model.bin", "safetensors")),
    "truncated": (truncated, ("base/model.safetensors", "its tensors end at byte")),
    "empty": (empty, ("base/model.safetensors", "damaged")),
    "out": (out_of_the_folder, ("base/model.safetensors.index.json", "leads out of the folder")),
    "int8": (in_eight_bits, ("layers.1.self_attn.v_proj.weight is of the type I8",)),
    "layers": (config(num_hidden_layers=10**9), ("base/config.json", "1000000000")),
    "width": (config(hidden_size=2**40), ("base/config.json",)),
    "words": (config(vocab_size="many"), ("base/config.json", "vocab_size")),
    "quantized": (config(quantization_config={"quant_method": "bitsandbytes"}), ("quantization_config",)),
}


@pytest.mark.parametrize("kind", ["llama", "phi"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_checkpoint_is_told_before_anything_is_made(tmp_path: Path, cli: Cli, fault: str, kind: str) -> None:
    write_base(tmp_path / "base", kind)
    damage, said = BROKEN[fault]
    damage(tmp_path / "base")
    tuning(tmp_path, "base")
    before = hashes(tmp_path)
    refused = cli("train", "r.yaml").expect_fault(4, *said)
    checked = cli("check", "r.yaml", "--json")
    assert checked.code == 2 and "Traceback" not in checked.err, checked.err
    [error] = json.loads(checked.out)["errors"]
    assert f"tilth: {error['message']}\n  remedy: {error['remedy']}\n" == refused, "train and check say the same"
    assert hashes(tmp_path) == before, "nothing is written"


@pytest.mark.slow
@pytest.mark.parametrize("number", [math.nan, -math.inf])
@pytest.mark.parametrize("kind", ["llama", "phi"])
def test_weights_that_are_no_numbers(tmp_path: Path, cli: Cli, kind: str, number: float) -> None:
    write_base(tmp_path / "base", kind)
    change_values(tmp_path / "base", lambda tensor: tensor.index_fill(1, torch.tensor([3]), number))
    tuning(tmp_path, "base")
    said = (
        "base/model.safetensors: model.layers.1.self_attn.v_proj.weight holds what is no finite number",
        "get it again",
    )
    cli("generate", "base", "--prompt", "x").expect_fault(4, *said)
    refused = cli("train", "r.yaml").expect_fault(4, *said)
    assert not (tmp_path / "runs").exists(), "no run folder is made"
    checked = cli("check", "r.yaml", "--json")
    [error] = json.loads(checked.out)["errors"]
    assert checked.code == 2 and f"tilth: {error['message']}\n  remedy: {error['remedy']}\n" == refused
    assert not (tmp_path / "work").exists(), "no data is prepared"


@pytest.mark.slow
def test_a_tensor_of_another_name_is_told_before_a_run_folder_is_made(tmp_path: Path, cli: Cli) -> None:
    """Names of transformers' own classes are told by the class alone, when it is loaded."""
    write_base(tmp_path / "base", "phi")
    tensors = {f"{n}x" if n.endswith("1.self_attn.v_proj.weight") else n: t for n, t in take(tmp_path / "base").items()}
    save_file(tensors, tmp_path / "base" / SINGLE, {"format": "pt"})
    tuning(tmp_path, "base")
    cli("train", "r.yaml").expect_fault(4, "base is not whole", "layers.1.self_attn.v_proj.weight is missing")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_own_model_that_is_no_numbers(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", train={"steps": 1})
    cli("train", "r.yaml", "--json").json()
    final = tmp_path / "runs" / "tuned" / "final"
    save_file({name: tensor * math.nan for name, tensor in take(final).items()}, final / SINGLE)
    (final / "manifest.json").unlink()
    cli("generate", str(final), "--prompt", "x").expect_fault(4, "no finite number")


@pytest.mark.slow
def test_code_and_kernels_beside_a_known_class_are_never_run(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "phi")
    config(auto_map={"AutoModelForCausalLM": "x.X"}, attn_implementation="somebody/kernel")(tmp_path / "base")
    (tmp_path / "base" / "x.py").write_text("raise SystemExit('the code of a checkpoint ran')")
    tuning(tmp_path, "base", train={"steps": 1})
    assert cli("train", "r.yaml", "--json").json()["step"] == 1
    kept = json.loads((tmp_path / "runs" / "tuned" / "final" / "config.json").read_text())
    assert not {"auto_map", "attn_implementation"} & kept.keys()


def test_no_network_and_nothing_in_the_cache(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    tuning(tmp_path, "some/model")
    cli("train", "r.yaml").expect_fault(3, "some/model", "cannot be reached", "cache", "bring the folder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cli("train", "r.yaml").expect_fault(3, "some/model", "cache", "bring the folder")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "work").exists()


@pytest.mark.slow
def test_an_adapter_whose_base_is_another(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", adapter={"rank": 2}, train={"steps": 1})
    cli("train", "r.yaml", "--json").json()
    for path in (tmp_path / "base").iterdir():
        path.unlink()
    write_base(tmp_path / "base", "gpt2")
    generate = ("generate", "runs/tuned", "--prompt", "x")
    cli(*generate).expect_fault(4, "runs/tuned/final was trained beside other base weights", "model.from")
    cli("train", "r.yaml", "--json", sets=["model.from=runs/tuned"]).expect_fault(
        2, "is an adapter and not a model", "merge"
    )
    for path in (tmp_path / "base").iterdir():
        path.unlink()
    (tmp_path / "base").rmdir()
    cli(*generate).expect_fault(2, "no run folder or model at", "base")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "phi"])
def test_a_vocabulary_smaller_than_the_tokenizers(tmp_path: Path, cli: Cli, kind: str) -> None:
    write_base(tmp_path / "base", kind)
    fewer_ids(tmp_path / "base")
    tuning(tmp_path, "base")
    said = cli("train", "r.yaml")
    assert said.code == 2 and "300" in said.err and "Traceback" not in said.err, said.err
    assert not (tmp_path / "runs").exists()
