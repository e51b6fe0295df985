"""Small models of transformers, the same as ours, and adapters that change what they compute."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import transformers
from torch import nn

from tilth.checkpoint.peft_names import places
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, lora_layers, quantize_layers
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer, build

VOCAB = 50


def gpt2(vocab: int = VOCAB, hidden: int = 32) -> Any:
    """Random weights, the same at each call, and no dropout."""
    config = transformers.GPT2Config(
        n_layer=2,
        n_head=2,
        n_embd=hidden,
        n_positions=32,
        vocab_size=vocab,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return made(transformers.GPT2LMHeadModel, config)


def llama(tied: bool = False) -> Any:
    """As `gpt2`, with grouped queries."""
    config = transformers.LlamaConfig(
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_size=32,
        intermediate_size=48,
        vocab_size=VOCAB,
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
    )
    return made(transformers.LlamaForCausalLM, config)


def made(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def falcon() -> Any:
    """Its linear layers are of a class of its own."""
    config = transformers.FalconConfig(
        num_hidden_layers=2, num_attention_heads=4, hidden_size=32, vocab_size=VOCAB, max_position_embeddings=32
    )
    return made(transformers.FalconForCausalLM, config)


def tied_llama() -> Any:
    return llama(tied=True)


def ours(theirs: Any) -> Transformer:
    """The same model in tilth."""
    shape: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": theirs.config.vocab_size, "context_length": 32}
    if isinstance(theirs, transformers.GPT2LMHeadModel):
        model = build(
            ModelConfig(preset="gpt2", num_attention_heads=2, hidden_size=theirs.config.n_embd, **shape), None
        )
        return filled(model, theirs)
    tied = theirs.config.tie_word_embeddings
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied}
    model = build(ModelConfig(preset="llama", hidden_size=32, intermediate_size=48, **heads, **shape), None)
    return filled(model, theirs)


@torch.no_grad()
def filled(model: Transformer, theirs: nn.Module) -> Transformer:
    """Our model with their weights."""
    state, placing = theirs.state_dict(), places(model)
    for name, parameter in model.named_parameters():
        place = placing(name)
        tensor = state[place.tensor].T if place.transposed else state[place.tensor]
        parameter.copy_(tensor.chunk(place.parts)[place.part])
    return model.eval()


def ids() -> torch.Tensor:
    return torch.randint(0, VOCAB, (3, 12), generator=torch.Generator().manual_seed(7))


def scores(model: Any) -> torch.Tensor:
    """Logits of a model of either side."""
    with torch.no_grad():
        out: torch.Tensor = model.logits(model(ids())) if isinstance(model, Transformer) else model(ids()).logits
    return out


@torch.no_grad()
def shake(model: nn.Module, seed: int = 3, by: float = 0.3) -> None:
    """Moves all that trains, so that an adapter matters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * by)


def peft_quietly(make: Any, *arguments: Any, **options: Any) -> Any:
    """What PEFT makes; its warnings (of deprecated calls of its own, of tied weights) are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **options)


def beside(model: Transformer, config: AdapterConfig) -> Transformer:
    """The model with an adapter of `config` that changes what it computes, as one that was trained does."""
    apply_adapter(model, config, seed=1)
    quantize_layers(model, config)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            for part in layer.adapters.values():
                nn.init.normal_(part.get_parameter("lora_B"), std=0.1, generator=torch.Generator().manual_seed(2))
    return model.eval()
