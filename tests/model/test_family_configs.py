"""config.json: what is read from old spellings, and what is refused instead of passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.model.families import SHAPES, difference, from_config, save
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.core.errors import CheckpointError, RecipeError
from tilth.model.config import PRESETS, ModelConfig
from tilth.model.families import family_of, read_hf_config, write_hf_config


def written(name: str, folder: Path, **changes: Any) -> Path:
    """config.json of a shape of ours, with some values changed; None takes a key out."""
    kind, _, values = SHAPES[name]
    config = json.loads(getattr(transformers, f"{kind}Config")(**values).to_json_string())
    config = {key: value for key, value in {**config, **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "longrope"),
        ("llama", {"rope_scaling": {"type": "llama3", "factor": 8.0}}, "needs high_freq_factor"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0, "low_freq_factor": 1}}, "low_freq_factor has no"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ("llama", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("llama", {"hidden_act": ["silu"]}, "hidden_act is ['silu']"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        ("llama", {"quantization": {"bits": 4}}, "quantization is {'bits': 4}"),
        ("llama", {"residual_multiplier": 0.2}, "residual_multiplier is 0.2"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved is True"),
        ("llama", {"rotary_emb_base": 5.0}, "rotary_emb_base is 5.0"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ("llama", {"hidden_size": "48"}, "hidden_size is '48'"),
        ("llama", {"hidden_size": ...}, "hidden_size is missing"),
        ("llama", {"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ("llama", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
        ("llama", {"rope_theta": "big", "rope_parameters": {"rope_type": "default"}}, "could not convert"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("qwen2", {"use_sliding_window": False, "layer_types": ["sliding_attention"] * 3}, "sliding_attention"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("gpt2", {"activation_function": "gelu_10"}, "activation_function is 'gelu_10'"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", {"sliding_window_size": 9}, "sliding_window_size is 9"),
        ("bert", {"is_decoder": True}, "is_decoder is True"),
        ("bert", {"directionality": "uni"}, "directionality is 'uni'"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads is {'0': [1]}"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ("roberta", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("llama", {"model_type": "phi"}, "model type 'phi'"),
        ("llama", {"model_type": "x", "auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
        ("llama", {"model_type": None}, "model type None"),
    ],
)
def test_what_cannot_be_honoured_is_named(name: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_hf_config(written(name, tmp_path, **changes))
    assert said in caught.value.message and caught.value.remedy


@pytest.mark.parametrize(
    ("name", "changes"),
    [("bert", {"position_embedding_type": "relative_key"}), ("llama", {"num_hidden_layers": 10**9})],
)
def test_what_no_class_computes_is_not_sent_to_one(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_hf_config(written(name, tmp_path, **changes))
    assert "wrapped" not in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is missing"), ("{", "is damaged"), ("[1]", "holds a list"), ("[" * 100_000, "is damaged"),
     (" " * (1 << 20) + "{}", "bytes"), (b"\xff\xfe", "is damaged")],
)  # fmt: skip
def test_a_config_that_is_none(content: str | bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=said):
        read_hf_config(tmp_path)


def test_what_changes_nothing_is_let_through(tmp_path: Path) -> None:
    harmless = {"use_cache": False, "eos_token_id": [2, 3], "torch_dtype": "bfloat16", "_name_or_path": "x",
                "id2label": {"0": "a"}, "some_switch": False, "unsloth_version": "1", "max_length": 20}  # fmt: skip
    assert read_hf_config(written("llama", tmp_path, **harmless)).config.num_hidden_layers == 3


OLD = {
    "llama": {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "qwen2": {"rope_theta": 500.0, "layer_types": ...},
    "gemma2": {"rope_theta": 500.0, "layer_types": ..., "hidden_act": "gelu_pytorch_tanh",
               "cache_implementation": "hybrid"},
    "gemma3": {"rope_theta": 5000.0, "rope_local_base_freq": 100.0,
               "rope_scaling": {"rope_type": "linear", "factor": 3},
               "layer_types": ..., "sliding_window_pattern": 2, "_sliding_window_pattern": ...},
}  # fmt: skip


PUBLISHED = {
    "gpt2": {"embd_pdrop": 0.0, "predict_special_tokens": True, "n_ctx": 40, "summary_type": "cls_index",
             "task_specific_params": {"text-generation": {"do_sample": True}}},
    "llama": {"is_llama_config": True, "rope_interleaved": False, "max_sequence_length": 2048, "pretraining_tp": 1,
              "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "_flash_attn_2_enabled": True,
              "tokenizer_padding_side": "right", "tokenizer_model_max_length": 4096, "unsloth_fixed": True},
    "qwen2": {"seq_length": 65536, "use_mrope": False, "max_window_layers": 21},
    "gemma2": {"sliding_window_size": 6, "_attn_implementation": "eager"},
    "bert": {"directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
             "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
             "eos_token_ids": 0, "pruned_heads": {}, "xla_device": True},
}  # fmt: skip
"""What files on the hub carry besides: SmolLM2's, Vicuna's, CodeQwen's, Google's …"""


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {"rope_parameters": ..., **OLD[name]}) for name in OLD), *PUBLISHED.items()]
)
def test_older_spellings_mean_what_transformers_reads(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = written(name, tmp_path, **changes)
    content = (folder / "config.json").read_text()
    theirs = from_config(transformers.AutoConfig.from_pretrained(folder))
    save(theirs, folder)
    (folder / "config.json").write_text(content)
    assert difference(theirs, load_checkpoint(folder).model.eval()) < 1e-4


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "modern"])
def test_every_preset_has_a_class(preset: str) -> None:
    """But for `modern`, which is refused below."""
    config = ModelConfig(preset=preset, vocab_size=500)
    expected = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "bert": "BertForMaskedLM"}
    assert family_of(config).architecture == expected[preset.split("-")[0]]
    values = write_hf_config(config, {"eos_token_id": 7})
    assert values["eos_token_id"] == 7 and values["vocab_size"] == 500


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({"qk_norm": True}, "Qwen3ForCausalLM"),
        ({"attention_bias": True, "attention_output_bias": False}, "Qwen2ForCausalLM"),
        ({"sliding_window": 8}, "MistralForCausalLM"),
        ({"qk_norm": True, "qk_norm_over": "width", "norm_position": "output"}, "Olmo2ForCausalLM"),
        ({"bias": True}, "LlamaForCausalLM"),
        ({"head_dim": 10}, "LlamaForCausalLM"),
        ({"dropout": 0.1}, "LlamaForCausalLM"),
    ],
)
def test_the_first_class_that_computes_it(changes: dict[str, Any], architecture: str) -> None:
    assert family_of(ModelConfig(preset="llama-tiny", vocab_size=50, **changes)).architecture == architecture


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "gpt2", "bias": False}, "model.bias: False (there: True)"),
        (
            {"preset": "llama", "activation": "relu2"},
            "LlamaForCausalLM, in the way is model.activation: relu2 (there: swiglu)",
        ),
        ({"preset": "modern"}, "model.activation: relu2"),
        ({"preset": "gpt2", "family": "llama"}, "nearest is LlamaForCausalLM"),
        ({"preset": "llama", "family": "lama"}, "model.family is 'lama'"),
    ],
)
def test_the_option_in_the_way_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        family_of(ModelConfig(vocab_size=50, **changes))
    assert said in caught.value.message


def test_a_shorter_context_keeps_the_positions_of_the_weights() -> None:
    config = ModelConfig(preset="gpt2", vocab_size=50, context_length=64, max_position_embeddings=1024)
    assert write_hf_config(config)["n_positions"] == 1024
    with pytest.raises(ValueError, match="more than max_position_embeddings"):
        ModelConfig(context_length=64, max_position_embeddings=32)


def test_what_dynamic_scaling_says_of_the_first_training_goes_out_again(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32}
    config = read_hf_config(written("llama", tmp_path, rope_parameters={"rope_theta": 1e4, **rope})).config
    assert write_hf_config(config)["rope_scaling"] == rope
    assert config.context_length == 40, "as its class has it: up to max_position_embeddings nothing changes"


def test_old_runs_still_load() -> None:
    old = {"context_length": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
           "hidden_size": 32, "intermediate_size": 128, "position": "rotary", "rope_theta": 10000.0, "norm": "rmsnorm",
           "norm_eps": 1e-05, "activation": "swiglu", "bias": False, "qk_norm": False, "tie_word_embeddings": True,
           "dropout": 0.0, "initializer_range": 0.02, "vocab_size": 257}  # fmt: skip
    config = ModelConfig.model_validate(old)
    assert config.head_size == 8 and config.kinds == ["full_attention"] * 2
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config
    assert torch.tensor(config.biases).sum() == 0
