"""Model FLOPs of a step, by what trains: what MFU is reckoned from.

    trained_flops_per_token(model)      forward and backward, of a model as it trains

Of each number of a matrix, with each token: 2 FLOPs forward, 2 for the gradient of what the matrix reads, 2 for its
own. The last go where it is frozen, those before where nothing that trains stands in front of it. So a model that
trains whole takes 6 (PaLM, appendix B, Chowdhery et al. 2022: `config.flops_per_token`), frozen matrices beside
adapters 4 (as LoRA's authors count no gradient for them: Hu et al. 2021, section 4.2). What is computed again for
want of memory counts nowhere.
"""

from __future__ import annotations

from torch import nn

from tilth.model.lora import LoraLinear
from tilth.model.transformer import Block, Transformer


class _Count:
    """FLOPs until here, and whether a gradient comes back to here: once it does it does so behind, for what a layer
    reads goes past it too.
    """

    def __init__(self, flows: bool) -> None:
        self.flops, self.flows = 0.0, flows

    def pass_through(self, *modules: nn.Module | None) -> None:
        """Through modules that read the same."""
        there = [module for module in modules if module is not None]
        for module in there:
            self.flops += _of_module(module, self.flows)
        self.flows = self.flows or any(p.requires_grad for module in there for p in module.parameters())


def trained_flops_per_token(model: Transformer) -> float:
    """Of forward and backward pass for one token; equals `flops_per_token` where everything trains."""
    embeddings = (model.embed_tokens, model.embed_positions, model.embed_types)  # looked up: no product
    count = _Count(any(p.requires_grad for module in embeddings if module is not None for p in module.parameters()))
    count.pass_through(model.embed_norm)
    for layer in model.layers:
        assert isinstance(layer, Block)
        _through_layer(count, layer, model)
    count.pass_through(model.norm)
    count.pass_through(model.mlm_head)
    for weight in (model.output_weight, model.output_bias):
        if weight is not None:
            count.flops += _of(weight.numel(), count.flows, weight.requires_grad)
    return count.flops


def _through_layer(count: _Count, layer: Block, model: Transformer) -> None:
    attention, mlp, config = layer.self_attn, layer.mlp, model.config
    count.pass_through(layer.input_layernorm)
    count.pass_through(attention.q_proj, attention.k_proj, attention.v_proj)
    count.pass_through(attention.q_norm, attention.k_norm)
    pairs = config.num_attention_heads * config.head_size * config.context_length
    count.flops += (12.0 if count.flows else 4.0) * pairs  # two products forward, four on the way back
    count.pass_through(attention.o_proj)
    count.pass_through(layer.post_attention_layernorm, layer.pre_feedforward_layernorm)
    count.pass_through(mlp.gate_proj, mlp.up_proj)
    count.pass_through(mlp.down_proj)
    count.pass_through(layer.post_feedforward_layernorm)


def _of(numbers: int, flows: bool, trained: bool) -> float:
    return numbers * (2.0 + 2.0 * flows + 2.0 * trained)


def _of_module(module: nn.Module, flows: bool) -> float:
    if not isinstance(module, LoraLinear):
        return sum(_of(p.numel(), flows, p.requires_grad) for p in module.parameters())
    total = _of(
        module.in_features * module.out_features, flows, module.weight is not None and module.weight.requires_grad
    )
    total += 0.0 if module.bias is None else _of(module.bias.numel(), flows, module.bias.requires_grad)
    if (part := module.part) is not None:
        a, b = part.lora_A, part.lora_B
        total += _of(a.numel(), flows, a.requires_grad) + _of(b.numel(), flows or a.requires_grad, b.requires_grad)
    return total
