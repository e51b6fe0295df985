"""Every family, random weights in several shapes: the logits of transformers, packed, cached, out again with the same
bits.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.model.families import LENGTH, SHAPES, difference, from_config, make, quiet, save, some_ids
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.core.files import verify_manifest
from tilth.exporting.hf import export_hf
from tilth.model.attention import document_mask
from tilth.model.config import parameter_count
from tilth.model.families import FAMILIES

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Path]]:
    """(theirs, ours, folder) of every shape, made once."""
    made = {}
    for name in SHAPES:
        theirs, folder = make(name), tmp_path_factory.mktemp(name)
        save(theirs, folder)
        made[name] = (theirs, load_checkpoint(folder), folder)
    return made


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_transformers(name: str, pairs: dict[str, Any]) -> None:
    theirs, loaded, _ = pairs[name]
    ours = loaded.model.eval()
    assert difference(theirs, ours) < 1e-4
    assert parameter_count(ours.config) == sum(p.numel() for p in ours.parameters())
    assert ours.config.family == theirs.config.model_type
    weight = ours.layers[1].mlp.up_proj.weight.data
    before = weight.clone()
    weight[:, 0] += 0.05
    assert difference(theirs, ours) > 1e-3, "a small fault shows"
    weight.copy_(before)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_packed_row_gives_what_transformers_gives_of_its_documents(name: str, pairs: dict[str, Any]) -> None:
    theirs, loaded, _ = pairs[name]
    ours, ids, first = loaded.model.eval(), some_ids(1), 17
    documents = torch.tensor([[0] * first + [1] * (LENGTH - first)])
    positions = torch.tensor([[*range(first), *range(LENGTH - first)]])
    mask = document_mask(documents, ours.config.is_causal)
    packed = ours.logits(ours(ids, positions, mask))
    alone = torch.cat([theirs(ids[:, :first]).logits, theirs(ids[:, first:]).logits], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["whole", "packed", "bf16"])
@pytest.mark.parametrize("name", ["mistral", "qwen2-window", "gemma2-plain", "gemma3"])
def test_windows_of_long_rows_are_those_of_transformers(name: str, kind: str, tmp_path: Path) -> None:
    """Rows that attention is computed for in chunks; gradients too."""
    family, _, values = SHAPES[name]
    length, border = 600, 333 if kind == "packed" else 0
    more = {"max_position_embeddings": length, "sliding_window": 150}
    theirs = from_config(getattr(transformers, f"{family}Config")(**{**values, **more}))
    ours = load_checkpoint(save(theirs, tmp_path)).model.eval()
    if kind == "bf16":
        theirs, ours = theirs.bfloat16(), ours.bfloat16()
    ids = some_ids(1, length)
    positions = torch.tensor([[*range(border), *range(length - border)]])
    mask = document_mask((torch.arange(length) >= border).long()[None]) if border else None
    found = ours.logits(ours(ids, positions, mask))
    alone = [theirs(some).logits for some in (ids[:, :border], ids[:, border:]) if some.numel()]
    expected = torch.cat(alone, dim=1)
    for logits in (found, expected):
        torch.nn.functional.cross_entropy(logits[0].float(), ids[0]).backward()
    gradients = ours.layers[0].self_attn.q_proj.weight.grad, theirs.model.layers[0].self_attn.q_proj.weight.grad
    for one, other in ((found, expected), gradients):
        assert (one - other).norm() < (0.15 if kind == "bf16" else 1e-4) * other.norm()


@pytest.mark.parametrize("name", [name for name in SHAPES if "bert" not in name])
@torch.no_grad()
def test_cached_logits_equal_uncached_ones(name: str, pairs: dict[str, Any]) -> None:
    ours, ids = pairs[name][1].model.eval(), some_ids()
    cache = ours.new_cache(2, LENGTH)
    bounds = [0, 9, 10, 11, 25, LENGTH]
    pieces = [ours(ids[:, a:b], cache=cache) for a, b in itertools.pairwise(bounds)]
    torch.testing.assert_close(ours.logits(torch.cat(pieces, 1)), ours.logits(ours(ids)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_what_came_in_goes_out_with_the_same_bits(name: str, pairs: dict[str, Any], tmp_path: Path) -> None:
    theirs, loaded, folder = pairs[name]
    ours = loaded.model
    out = export_hf(ours.config, ours.state_dict(), tmp_path / "out", folder, max_shard_bytes=20_000).folder
    before = load_file(folder / "model.safetensors")
    shards = sorted(out.glob("model-*.safetensors"))
    after = {key: value for shard in shards for key, value in load_file(shard).items()}
    assert len(shards) > 1 and after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    verify_manifest(out)
    auto = transformers.AutoModelForCausalLM if ours.config.is_causal else transformers.AutoModelForMaskedLM
    with quiet():
        again, info = auto.from_pretrained(out, output_loading_info=True, attn_implementation="eager")
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(again) is type(theirs)
    ids = some_ids()
    assert torch.equal(again.eval()(ids).logits, theirs(ids).logits)
    assert load_checkpoint(out).model.config.resolved() == ours.config.resolved()


@torch.no_grad()
def test_token_types_count(pairs: dict[str, Any]) -> None:
    theirs, loaded, _ = pairs["bert"]
    ours, ids = loaded.model.eval(), some_ids()
    types = (torch.arange(LENGTH) > 10).long().expand(2, -1)
    expected = theirs(ids, token_type_ids=types).logits
    torch.testing.assert_close(ours.logits(ours(ids, token_types_BT=types)), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, theirs(ids).logits, atol=1e-2)


@pytest.mark.parametrize("theirs", ["float16", "bfloat16"])
def test_half_precision_comes_in_exactly_and_goes_out_as_it_was(theirs: str, tmp_path: Path) -> None:
    model = make("gpt2").to(getattr(torch, theirs))
    folder = save(model, tmp_path / "in")
    ours = load_checkpoint(folder).model
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    out = export_hf(ours.config, ours.state_dict(), tmp_path / "out", folder, dtype=theirs).folder  # type: ignore[arg-type]
    before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == before[key].dtype for key in before)
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == theirs


def test_the_documents_name_every_family_and_shape() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for family in FAMILIES.values():
        assert family.architecture in text
    for _, said, _ in SHAPES.values():
        assert f"| {said} |" in text, "make the table again: python -m tests.model.families"


def test_every_family_has_a_shape() -> None:
    shaped = {getattr(transformers, f"{kind}Config").model_type for kind, _, _ in SHAPES.values()}
    assert shaped == FAMILIES.keys(), "what no shape is of, nothing compares: tests/model/families.py"
