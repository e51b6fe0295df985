"""PEFT loads what we save, we load what PEFT saves, and what does not belong is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.adapter_helpers import gpt2, llama, ours, peft_quietly, scores, shake, tied_llama
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.checkpoint.peft import check_savable, save_adapter
from tilth.checkpoint.peft_config import Base
from tilth.checkpoint.peft_load import load_adapter
from tilth.checkpoint.trainable import base_fingerprint
from tilth.core.config import parse
from tilth.core.errors import CheckpointError, RecipeError, StorageError
from tilth.core.files import verify_manifest
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, choose, lora_layers
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import Transformer

pytestmark = pytest.mark.slow

Make = Callable[[], Any]
SOME = ["q_proj", "v_proj", "layers.1.mlp.up_proj"]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"rslora": True, "targets": SOME},
    {"dora": True},
    {"dora": True, "targets": SOME},
    {"modules_to_save": ["embed_tokens", "norm"]},
]


def trained(make: Make, **changes: Any) -> Transformer:
    """Our model with an adapter that was moved away from where it began."""
    model = ours(make())
    apply_adapter(model, parse(AdapterConfig, {"rank": 4, "alpha": 8, **changes}), 1)
    shake(model)
    return model


def peft_model(base: Any, **options: Any) -> Any:
    """PEFT's model with an adapter of its own, moved likewise."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    fused = type(base).__name__ == "GPT2LMHeadModel"
    model = peft_quietly(peft.get_peft_model, base, peft.LoraConfig(fan_in_fan_out=fused, **options))
    shake(model)
    return model.eval()


@pytest.mark.parametrize("make", [gpt2, llama, tied_llama])
@pytest.mark.parametrize("changes", VARIANTS)
def test_peft_loads_ours_and_so_do_we(make: Make, changes: dict[str, Any], tmp_path: Path) -> None:
    model = trained(make, **changes)
    save_adapter(model, tmp_path / "adapter")
    theirs = peft_quietly(peft.PeftModel.from_pretrained, make(), tmp_path / "adapter").eval()
    assert not torch.allclose(scores(model), scores(make()), atol=1e-2), "the adapter matters"
    torch.testing.assert_close(scores(theirs), scores(model), atol=1e-5, rtol=1e-5)
    again = ours(make())
    load_adapter(again, tmp_path / "adapter")
    torch.testing.assert_close(scores(again), scores(model), atol=1e-5, rtol=1e-5)
    verify_manifest(tmp_path / "adapter")


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"mlp.*proj|c_fc": 7}, "alpha_pattern": {r"h\.0\.attn\.c_attn|k_proj": 3, "c_.*|o_proj": 5}},
    ],
)
def test_we_load_pefts_and_give_it_back(make: Make, options: dict[str, Any], tmp_path: Path) -> None:
    if make is gpt2 and "modules_to_save" in options:
        options = {"modules_to_save": ["ln_f", "wpe"]}
    peft_quietly(peft_model(make(), **options).save_pretrained, tmp_path / "theirs")
    # Saving sorts PEFT's patterns, and the first that fits counts: what was saved is not always what was trained.
    theirs = peft_quietly(peft.PeftModel.from_pretrained, make(), tmp_path / "theirs").eval()
    model = ours(make())
    load_adapter(model, tmp_path / "theirs")
    torch.testing.assert_close(scores(model), scores(theirs), atol=1e-5, rtol=1e-5)
    save_adapter(model, tmp_path / "ours")
    before, after = (load_file(tmp_path / side / "adapter_model.safetensors") for side in ("theirs", "ours"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    back = peft_quietly(peft.PeftModel.from_pretrained, make(), tmp_path / "ours").eval()
    torch.testing.assert_close(scores(back), scores(theirs), atol=1e-5, rtol=1e-5)


def test_a_model_of_transformers_is_adapted_as_it_is(tmp_path: Path) -> None:
    model = gpt2()
    apply_adapter(model, AdapterConfig(rank=4, alpha=8.0, dora=True), 1)
    shake(model)
    save_adapter(model, tmp_path / "adapter")
    theirs = peft_quietly(peft.PeftModel.from_pretrained, gpt2(), tmp_path / "adapter").eval()
    torch.testing.assert_close(scores(theirs), scores(model), atol=1e-5, rtol=1e-5)


def test_gpt2s_fused_layer_goes_out_as_one_of_the_summed_rank(tmp_path: Path) -> None:
    save_adapter(trained(gpt2, targets=["q_proj", "v_proj", "up_proj"]), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    ranks = {"r": config["r"], **config["rank_pattern"]}
    assert sorted(config["target_modules"]) == ["attn.c_attn", "mlp.c_fc"] and sorted(ranks.values()) == [4, 8]
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    b = tensors["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"].view(3, 32, 8)
    assert not b[1].any() and not b[0, :, 4:].any() and not b[2, :, :4].any() and b[0, :, :4].all()


def test_new_tokens_go_along(tmp_path: Path) -> None:
    model = ours(gpt2())
    resize_embeddings(model, 53, 1)
    apply_adapter(model, AdapterConfig(rank=2, modules_to_save=["embed_tokens"]), 1)
    shake(model)
    save_adapter(model, tmp_path / "adapter")
    base = gpt2()
    base.resize_token_embeddings(53, mean_resizing=False)
    theirs = peft_quietly(peft.PeftModel.from_pretrained, base, tmp_path / "adapter").eval()
    torch.testing.assert_close(scores(theirs), scores(model), atol=1e-5, rtol=1e-5)
    with pytest.raises(CheckpointError, match=r"transformer.wte.weight is \[53, 32\], and the base has \[50, 32\]"):
        load_adapter(ours(gpt2()), tmp_path / "adapter")


def test_a_base_with_rows_to_spare_is_not_resized(tmp_path: Path) -> None:
    """A padded vocabulary: rows for new tokens are there, and fewer of them are another model."""
    model = trained(gpt2, modules_to_save=["embed_tokens"])
    save_adapter(model, tmp_path / "adapter")
    theirs = peft_quietly(peft.PeftModel.from_pretrained, gpt2(), tmp_path / "adapter").eval()
    torch.testing.assert_close(scores(theirs), scores(model), atol=1e-5, rtol=1e-5)
    cut = gpt2()
    cut.resize_token_embeddings(47, mean_resizing=False)
    with pytest.raises(RuntimeError, match="size mismatch"):
        peft_quietly(peft.PeftModel.from_pretrained, cut, tmp_path / "adapter")


def test_several_are_loaded_and_one_is_chosen(tmp_path: Path) -> None:
    outputs, model = {}, ours(gpt2())
    base = scores(model)
    for name, changes in (("a", {}), ("b", {"dora": True, "modules_to_save": ["norm"]})):
        outputs[name] = scores(one := trained(gpt2, **changes))
        save_adapter(one, tmp_path / name)
        load_adapter(model, tmp_path / name, name=name)
    for name in ("a", "b", None, "a"):
        choose(model, name)
        torch.testing.assert_close(scores(model), base if name is None else outputs[name], atol=1e-6, rtol=1e-6)


def test_a_loaded_adapter_can_be_trained_on(tmp_path: Path) -> None:
    save_adapter(trained(gpt2), tmp_path / "adapter")
    model = ours(gpt2())
    load_adapter(model, tmp_path / "adapter", trainable=True)
    model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    got = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert got == {f"{path}.adapters.default.{key}" for path in lora_layers(model) for key in ("lora_A", "lora_B")}


def test_another_base_is_refused_with_what_differs(tmp_path: Path) -> None:
    model = trained(gpt2)
    save_adapter(model, tmp_path / "adapter", base=Base("org/gpt2", base_fingerprint(ours(gpt2()))))
    for base, said in (
        (Base("org/gpt2", "0" * 64), "was trained beside other weights (org/gpt2, fingerprint"),
        (Base("org/gpt2-medium"), "was trained beside org/gpt2, and this is org/gpt2-medium"),
    ):
        with pytest.raises(CheckpointError) as caught:
            load_adapter(ours(gpt2()), tmp_path / "adapter", base=base)
        assert said in str(caught.value)
    for base in (Base("other/GPT2"), Base("folders/of/mine"), Base("x", base_fingerprint(ours(gpt2()))), Base()):
        load_adapter(ours(gpt2()), tmp_path / "adapter", base=base)
    with pytest.raises(
        CheckpointError, match=r"it is at transformer.h.0.attn.c_attn, which the base lacks.*and 3 more"
    ):
        load_adapter(ours(llama()), tmp_path / "adapter")
    wider = ours(gpt2(hidden=48))
    with pytest.raises(CheckpointError, match=r"c_attn: lora_A is \[12, 32\], and the base needs \[12, 48\]"):
        load_adapter(wider, tmp_path / "adapter")
    assert not lora_layers(wider), "nothing was added"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is no LoRA"),
        ({"bias": "all"}, "bias 'all' changes what the adapter computes"),
        ({"lora_bias": True}, "lora_bias True changes"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes"),
        ({"layer_replication": [[0, 1]]}, "layer_replication [[0, 1]] changes"),
        ({"a_key_of_next_year": 1}, "a_key_of_next_year 1 changes"),
        ({"r": "four"}, "r 'four' is no number"),
        ({"lora_alpha": float("inf")}, "lora_alpha inf is no number"),
        ({"alpha_pattern": [1]}, "alpha_pattern [1] is no table"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern '(' cannot be used"),
        ({"alpha_pattern": {"((.|..)+)+[A-Z]": 1}}, "cannot be used: regex timed out"),
        ({"r": 16}, "adapter_config.json: r says rank 16 for transformer.h.0.attn.c_proj, whose lora_A in"),
        (
            {"rank_pattern": {}},
            "r says rank 4 for transformer.h.0.attn.c_attn, whose lora_A in adapter_model.safetensors",
        ),
        ({"rank_pattern": {"c_attn": 8}}, "rank_pattern says rank 8 for transformer.h.0.attn.c_attn, whose"),
        ({"target_modules": 7}, "target_modules 7 is neither a list of names nor a pattern"),
        ({"target_modules": ["attn.c_attn"]}, "target_modules does not name transformer.h.0.attn.c_proj, which"),
        ({"target_modules": r".*\.attn\.c_\w+"}, "target_modules does not name transformer.h.0.mlp.c_fc, which"),
        ({"target_modules": "("}, "target_modules cannot be used"),
        ({"use_dora": True}, "c_attn: it has lora_A, lora_B, not lora_A, lora_B, lora_magnitude_vector"),
    ],
)
def test_what_tilth_lacks_is_refused_by_its_key(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    save_adapter(trained(gpt2), tmp_path / "adapter")
    load_adapter(ours(gpt2()), tmp_path / "adapter")
    change_config(tmp_path / "adapter", **changes)
    with pytest.raises(CheckpointError) as caught:
        load_adapter(ours(gpt2()), tmp_path / "adapter")
    assert said in str(caught.value)


def test_target_modules_may_name_what_the_base_lacks_but_not_what_the_adapter_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_adapter(trained(llama, targets=["q_proj"], modules_to_save=["norm"]), folder)
    for fine in (["q_proj", "c_attn"], ["self_attn.q_proj"], ["q_proj", "norm"], "all-linear", r".*q_proj", None):
        change_config(folder, target_modules=fine)
        load_adapter(ours(llama()), folder)
    change_config(folder, target_modules=["q_proj", "v_proj"])
    with pytest.raises(
        CheckpointError, match=r"target_modules names v_proj, at which adapter_model.safetensors has no"
    ):
        load_adapter(ours(llama()), folder)
    change_config(folder, exclude_modules=["v_proj"])
    load_adapter(ours(llama()), folder)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_adapter(trained(llama), folder)
    weights, tensors = folder / "adapter_model.safetensors", load_file(folder / "adapter_model.safetensors")
    first = min(tensors)
    faults: list[tuple[Any, str]] = [
        ({**tensors, first: torch.full_like(tensors[first], float("nan"))}, "holds what is no finite number"),
        ({key: value for key, value in tensors.items() if key != first}, "it has lora_B, not lora_A, lora_B"),
        ({**tensors, "base_model.model.model.extra.weight": torch.ones(2)}, "it holds model.extra.weight, which"),
        ({}, "it is empty"),
    ]
    for changed, said in faults:
        save_file(changed, weights)
        with pytest.raises(CheckpointError) as caught:
            load_adapter(ours(llama()), folder)
        assert said in str(caught.value)
    weights.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_adapter(ours(llama()), folder)
    weights.unlink()
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="as a pickle"):
        load_adapter(ours(llama()), folder)
    for text, said in (("{", "cannot be read"), ("[" * 100_000, "cannot be read"), ("[]", "holds no table")):
        (folder / "adapter_config.json").write_text(text)
        with pytest.raises(CheckpointError, match=said):
            load_adapter(ours(llama()), folder)


@pytest.mark.parametrize("whole", [["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_an_embedding_trained_apart_from_a_tied_output_is_merged_as_the_remedy_says(
    whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = peft_model(tied_llama(), modules_to_save=whole)
    peft_quietly(theirs.save_pretrained, tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="trained apart, and this base ties it") as caught:
        load_adapter(ours(tied_llama()), tmp_path / "theirs")
    assert "ensure_weight_tying=True" in caught.value.remedy
    monkeypatch.chdir(tmp_path)
    peft_quietly(exec, caught.value.remedy.split("`")[1], {"base": tied_llama(), "peft": peft, "torch": torch})
    merged = load_checkpoint(tmp_path / "MERGED").model.eval()
    torch.testing.assert_close(scores(merged), scores(theirs), atol=5e-5, rtol=1e-5)  # weights added up are rounded
    if len(whole) > 1:  # tying was asked for, and PEFT trained two all the same
        change_config(tmp_path / "theirs", ensure_weight_tying=True)
        with pytest.raises(CheckpointError, match="trained apart, and this base ties it") as caught:
            load_adapter(ours(tied_llama()), tmp_path / "theirs")
        assert "ensure_weight_tying" not in caught.value.remedy and "MERGED" in caught.value.remedy


def test_merging_is_offered_where_peft_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias has no place in a layer without one, and of layers that are there twice nothing is saved."""
    monkeypatch.chdir(tmp_path)
    for make, options in ((gpt2, {"lora_bias": True}), (llama, {"layer_replication": [[0, 2], [1, 2]]})):
        theirs = peft_model(make(), **options)
        peft_quietly(theirs.save_pretrained, tmp_path / make.__name__)
        with pytest.raises(CheckpointError, match=next(iter(options))) as caught:
            load_adapter(ours(make()), tmp_path / make.__name__)
        if make is llama:
            assert caught.value.remedy == "use another adapter"
            continue
        assert "where every layer that it is at has a bias" in caught.value.remedy
        peft_quietly(exec, caught.value.remedy.split("`")[1], {"base": make(), "peft": peft})
        merged = load_checkpoint(tmp_path / "MERGED").model.eval()
        torch.testing.assert_close(scores(merged), scores(theirs), atol=1e-5, rtol=1e-5)


def test_what_is_there_is_not_overwritten_and_nothing_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(StorageError, match="is there already"):
        save_adapter(trained(gpt2), tmp_path / "adapter")
    with pytest.raises(RecipeError, match="has no adapter None to save"):
        save_adapter(ours(gpt2()), tmp_path / "new")
    part = trained(gpt2, targets=["v_proj"], modules_to_save=["q_proj"])
    for refused in (check_savable, lambda model: save_adapter(model, tmp_path / "new")):
        with pytest.raises(RecipeError, match=r"is a part of transformer.h.0.attn.c_attn"):
            refused(part)
    for whole in (ours(gpt2()), trained(gpt2), trained(gpt2, targets=["v_proj"], modules_to_save=["up_proj"])):
        check_savable(whole)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("make", "targets", "at"),
    [
        (llama, ["q_proj", "lm_head"], "lm_head"),
        (tied_llama, ["lm_head"], "lm_head"),
        (llama, ["q_proj", "embed_tokens"], "model.embed_tokens"),
        (gpt2, ["c_attn", "wte"], "transformer.wte"),
    ],
)
def test_lora_at_embeddings_or_output_is_merged_as_the_remedy_says(
    make: Make, targets: list[str], at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = peft_model(make(), target_modules=targets)
    peft_quietly(theirs.save_pretrained, tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=f"it has LoRA at {at}, and tilth has none at embeddings") as caught:
        load_adapter(ours(make()), tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)
    code = caught.value.remedy.split("`")[1]
    peft_quietly(exec, code, {"base": make(), "peft": peft, "torch": torch})
    merged = load_checkpoint(tmp_path / "MERGED").model.eval()
    torch.testing.assert_close(scores(merged), scores(theirs), atol=1e-5, rtol=1e-5)
