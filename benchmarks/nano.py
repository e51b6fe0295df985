"""nanoGPT's side of training: its model and the loop of its train.py with the settings it gives for a CPU.

With `checkout` the model and its optimizer are those of the checkout's model.py; without, a model of the same shape,
written here: learned positions, LayerNorm before each part, GELU, tied embeddings, no biases.
The loop, as published: rows at random places of the text, fp32 outside of a GPU, cross-entropy, the norm of the
gradient cut at 1, AdamW (fused on a GPU only), decay of matrices alone, cosine schedule after a warm-up. `tuned` adds
what it leaves out on a CPU: bf16 by autocast, torch.compile and the fused optimizer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.worker import Pace, Turns

WARM_UP, LEAST = 100, 0.1  # steps, share of the rate at the end
BETAS = (0.9, 0.99)


class Layer(nn.Module):
    """Attention and MLP, each beside the residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width, bias=False) for _ in range(2)])
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x_BTD)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).flatten(2))
        added: Tensor = x_BTD + self.mlp(self.norms[1](x_BTD))
        return added


class Model(nn.Module):
    """The shape, and what the loop needs of it: (ids, targets) -> (logits, loss)."""

    def __init__(self, layers: int, heads: int, width: int, context: int, vocab: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tokens(ids_BT) + self.places(torch.arange(ids_BT.shape[1], device=ids_BT.device))
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten())


def _model(options: dict[str, Any]) -> nn.Module:
    shape = options["shape"]
    if options["checkout"] is None:
        return Model(shape["layers"], shape["heads"], shape["width"], shape["context"], options["vocab"])
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(options["checkout"]) / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=shape["context"],
        vocab_size=options["vocab"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_embd=shape["width"],
        dropout=0.0,
        bias=False,
    )
    model: nn.Module = module.GPT(config)
    return model


def _optimizer(model: nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    tuned = options["tuned"]
    if options["checkout"] is not None and not tuned:
        own: torch.optim.Optimizer = model.configure_optimizers(0.1, options["lr"], BETAS, "cpu")  # type: ignore[operator]
        return own
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options["lr"], betas=BETAS, fused=tuned)


def _batches(options: dict[str, Any]) -> Callable[[], tuple[Tensor, Tensor]]:
    """Rows at random places, read from a file that is mapped anew each time, as its loop does."""
    folder, rows, context = Path(options["folder"]), options["rows"], options["shape"]["context"]

    def batch() -> tuple[Tensor, Tensor]:
        ids = np.memmap(folder / "ids.bin", dtype=np.uint16, mode="r")
        starts = torch.randint(len(ids) - context, (rows,)).tolist()
        cut = torch.stack([torch.from_numpy(ids[start : start + context + 1].astype(np.int64)) for start in starts])
        return cut[:, :-1].contiguous(), cut[:, 1:].contiguous()

    return batch


def rate(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step, counted from 0."""
    if step < WARM_UP:
        return peak * (step + 1) / (WARM_UP + 1)
    share = min(1.0, (step - WARM_UP) / max(1, steps - WARM_UP))
    return peak * (LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * share)))


def loop(pace: Pace, options: dict[str, Any]) -> None:
    """Steps until no more are asked for."""
    torch.manual_seed(1337)
    model, batch, step = _model(options), _batches(options), 0
    optimizer, compiled = _optimizer(model, options), torch.compile(model) if options["tuned"] else model
    ids, targets = batch()
    while True:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options["schedule"], options["lr"])
        low = torch.autocast("cpu", torch.bfloat16) if options["tuned"] else contextlib.nullcontext()
        with low:
            _, loss = compiled(ids, targets)
        ids, targets = batch()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(loss.item()):  # its loop prints the loss
            raise RuntimeError(f"the loss of step {step} is no number")
        step += 1
        if not pace.more():
            return


def train(turns: Turns, options: dict[str, Any]) -> None:
    """Tokens per second."""
    tokens = options["steps"] * options["rows"] * options["shape"]["context"]
    loop(Pace(turns, options["warm"], options["steps"], lambda seconds: {"speed": tokens / seconds}), options)


def to_loss(turns: Turns, options: dict[str, Any]) -> None:
    """Seconds of all steps that its configuration takes to its loss, from the mean of the steps of a turn."""
    count, needed = options["steps"], options["schedule"]
    loop(Pace(turns, options["warm"], count, lambda seconds: {"time": seconds / count * needed}), options)
