"""Weights of Hugging Face families under this model's names.

from_gpt2(state)     GPT2LMHeadModel: fused and transposed (Conv1D) projections come apart
from_llama(state)    LlamaForCausalLM: the same names, without the `model.` in front
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_GPT2_NAMES = {
    "transformer.wte.weight": "embed_tokens.weight",
    "transformer.wpe.weight": "embed_positions.weight",
    "transformer.ln_f.weight": "norm.weight",
    "transformer.ln_f.bias": "norm.bias",
}
_GPT2_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}


def from_gpt2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a GPT2LMHeadModel for a `gpt2` preset of the same shape (its output is tied: no lm_head)."""
    ours = {}
    for name, tensor in state.items():
        if name in _GPT2_NAMES:
            ours[_GPT2_NAMES[name]] = tensor
        elif name.startswith("transformer.h."):
            _, _, layer, rest = name.split(".", 3)
            module, _, kind = rest.rpartition(".")
            # Conv1D keeps its weight as [in, out], Linear as [out, in].
            value = tensor.T if kind == "weight" and tensor.dim() == 2 else tensor
            ours |= {f"layers.{layer}.{key}.{kind}": part for key, part in _gpt2_module(module, value)}
    return ours


def _gpt2_module(module: str, value: Tensor) -> list[tuple[str, Tensor]]:
    if module == "attn.c_attn":
        parts = value.chunk(3, dim=0)
        return [(f"self_attn.{name}_proj", part) for name, part in zip("qkv", parts, strict=True)]
    return [(_GPT2_LAYER[module], value)] if module in _GPT2_LAYER else []


def from_llama(state: Mapping[str, Tensor], tied: bool = False) -> dict[str, Tensor]:
    """The state of a LlamaForCausalLM for a `llama` preset of the same shape."""
    ours = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in ours.items() if not (tied and name == "lm_head.weight")}
