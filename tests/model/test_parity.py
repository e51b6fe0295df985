"""With the same random weights, logits equal those of transformers' GPT-2 and Llama."""

from __future__ import annotations

import pytest
import torch
import transformers

from tilth.model.config import ModelConfig
from tilth.model.hf import from_gpt2, from_llama
from tilth.model.transformer import build


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough for every part to matter: norms and biases too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.dim() == 1 and "bias" not in name else 0.0
            parameter.copy_(centre + torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.mark.parametrize(("layers", "heads", "hidden", "vocab"), [(2, 2, 32, 50), (3, 4, 64, 99)])
def test_gpt2_logits_equal(layers: int, heads: int, hidden: int, vocab: int) -> None:
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=layers, n_head=heads, n_embd=hidden, n_positions=24, vocab_size=vocab)
    ).eval()
    randomise(theirs)
    config = ModelConfig(
        preset="gpt2",
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_size=hidden,
        context_length=24,
        vocab_size=vocab,
    )
    ours = build(config, None)
    ours.load_state_dict(from_gpt2(theirs.state_dict()))
    ids = torch.randint(0, vocab, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().logits(ours(ids)), theirs(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("heads", "kv_heads", "tied"), [(4, 4, False), (4, 2, False), (6, 1, True)])
def test_llama_logits_equal(heads: int, kv_heads: int, tied: bool) -> None:
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            hidden_size=48,
            intermediate_size=80,
            vocab_size=77,
            max_position_embeddings=32,
            rms_norm_eps=1e-5,
            tie_word_embeddings=tied,
            rope_theta=5000.0,
        )
    ).eval()
    randomise(theirs)
    config = ModelConfig(
        preset="llama",
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=48,
        intermediate_size=80,
        vocab_size=77,
        context_length=32,
        tie_word_embeddings=tied,
        rope_theta=5000.0,
    )
    ours = build(config, None)
    ours.load_state_dict(from_llama(theirs.state_dict(), tied=tied))
    ids = torch.randint(0, 77, (3, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().logits(ours(ids)), theirs(ids).logits, atol=1e-4, rtol=1e-4)
