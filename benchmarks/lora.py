"""A LoRA step of tilth beside PEFT's on the same model and rows: processor seconds, and the peak memory of each.

    python benchmarks/lora.py [--shape gpt2|llama-0.5b] [--rows 4] [--tokens 256] [--repeats 5] [--precision fp32|bf16]
                              [--variant lora|dora|nf4] [--held fp32|bf16]

Weights are random and equal in kind. A step is forward, backward, clipping and AdamW (fused on both sides), one thread.
Adapters of rank 16 are at all linear layers. Times are taken in one process, the sides in turn; printed are medians.
Memory is the largest resident size of a process of its own for each side, `full` being tilth without an adapter, and
`compiled` with `train.compile` (it needs g++, and is there for plain LoRA alone; graphs are kept for the next time, as
a run's are). PEFT runs in a bare loop, which is lighter than transformers' Trainer. NF4 is tilth's alone: there PEFT
keeps its weights.
tilth's job holds frozen weights in the precision of the products, and so does its side here; PEFT's are fp32, as a
model comes. `--held` sets both: compare with that too, for whoever uses PEFT can load them in bf16.
Needs the peer: `pip install -c constraints.txt -e '.[dev]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tilth.core.environment import cache_folder
from tilth.data.batches.loader import Batch
from tilth.distributed.runtime import Runtime
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.compiled import compile_layers
from tilth.model.config import ModelConfig
from tilth.model.precision import DTYPES, make_scaler
from tilth.model.transformer import build
from tilth.training.config import OptimizerConfig
from tilth.training.optim import make_optimizer
from tilth.training.step import accumulate, update

if TYPE_CHECKING:
    from benchmarks.worker import Turns

RANK = 16
QWEN = {"layers": 24, "heads": 14, "kv": 2, "hidden": 896, "inner": 4864, "vocab": 151936}
SIDES = ("tilth", "compiled", "peft", "full")

Step = Callable[[], float]
"""One update; its loss."""


def rows(options: argparse.Namespace, vocab: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, vocab, (options.rows, options.tokens + 1))


def tilth_step(options: argparse.Namespace, *, adapter: bool, compiled: bool) -> Step:
    """The trainer's own step."""
    if options.shape == "gpt2":
        config = ModelConfig(preset="gpt2", vocab_size=50257)
    else:
        config = ModelConfig(
            preset="llama",
            num_hidden_layers=QWEN["layers"],
            num_attention_heads=QWEN["heads"],
            num_key_value_heads=QWEN["kv"],
            hidden_size=QWEN["hidden"],
            intermediate_size=QWEN["inner"],
            vocab_size=QWEN["vocab"],
            tie_word_embeddings=True,
        )
    model, runtime = build(config, None), Runtime(torch.device("cpu"))
    for name, parameter in model.named_parameters():  # in place: drawing them as a new model does would be the peak
        vector = parameter.dim() == 1
        nn.init.constant_(parameter, float("bias" not in name)) if vector else nn.init.normal_(parameter, std=0.02)
    if adapter:
        dora, nf4 = options.variant == "dora", "nf4" if options.variant == "nf4" else None
        wanted = AdapterConfig(rank=RANK, alpha=2.0 * RANK, dora=dora, quantize=nf4)
        apply_adapter(model, wanted, 1, dtype=DTYPES.get(options.held or options.precision))
    if compiled:
        compile_layers(model, cache_folder() / "compiled")
    ids, scaler = rows(options, config.vocabulary), make_scaler(options.precision, runtime.device)
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), np.arange(options.rows))
    optimizer = make_optimizer(OptimizerConfig(lr=1e-4), model)

    def step() -> float:
        model.train()
        loss = accumulate(model, batch, options.rows, runtime, options.precision, scaler, seed=1, step=0)
        return update(model, optimizer, scaler, loss, 1.0).loss

    return step


def peft_step(options: argparse.Namespace) -> Step:
    """PEFT's model in a bare loop."""
    import peft
    import transformers

    if options.shape == "gpt2":
        gpt2 = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        base: Any = transformers.GPT2LMHeadModel(gpt2)
    else:
        base = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                num_hidden_layers=QWEN["layers"],
                num_attention_heads=QWEN["heads"],
                num_key_value_heads=QWEN["kv"],
                hidden_size=QWEN["hidden"],
                intermediate_size=QWEN["inner"],
                vocab_size=QWEN["vocab"],
                tie_word_embeddings=True,
            )
        )
    base = base.to(DTYPES.get(options.held, torch.float32))  # adapters stay fp32: PEFT sees to it
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules="all-linear",
        use_dora=options.variant == "dora",
        fan_in_fan_out=options.shape == "gpt2",
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(base, config)
    ids = torch.from_numpy(rows(options, base.config.vocab_size)[:, 1:].copy())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    low = options.precision in DTYPES

    def step() -> float:
        model.train()
        with torch.autocast("cpu", DTYPES[options.precision]) if low else contextlib.nullcontext():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def make(side: str, options: argparse.Namespace) -> Step:
    if side == "peft":
        return peft_step(options)
    return tilth_step(options, adapter=side != "full", compiled=side == "compiled")


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One side for the suite: tokens a second by the clock on all threads, and the peak memory of the process."""
    from benchmarks.worker import Pace, peak_mib

    given = argparse.Namespace(**{"shape": "gpt2", "variant": "lora", "held": None, **options})
    step, tokens = make(options["side"], given), given.rows * given.tokens * given.steps
    pace = Pace(turns, 2, given.steps, lambda taken: {"speed": tokens / taken, "memory": peak_mib()})
    step()
    while pace.more():
        step()


def memory(side: str) -> float:
    """Peak resident MiB of a process that does two steps of one side."""
    arguments = [*(word for word in sys.argv[1:]), "--side", side]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("gpt2", "llama-0.5b"), default="gpt2")
    parser.add_argument("--variant", choices=("lora", "dora", "nf4"), default="lora")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--held", choices=("fp32", "bf16"), help="frozen weights; left out: as --precision, PEFT's fp32"
    )
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.side:
        step = make(options.side, options)
        step(), step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    sides = [side for side in SIDES if side != "compiled" or options.variant == "lora"]
    peaks = {side: memory(side) for side in sides}
    steps = {side: make(side, options) for side in sides if side != "full"}
    times: dict[str, list[float]] = {side: [] for side in steps}
    for turn in range(options.repeats + 1):
        for side, step in steps.items():
            start = time.process_time()
            step()
            if turn:
                times[side].append(time.process_time() - start)
    tokens = options.rows * options.tokens
    print(f"{options.shape}, {options.variant}, {options.precision}, {tokens} tokens a step, one thread")
    middle = {side: statistics.median(taken) for side, taken in times.items()}
    for side, peak in peaks.items():
        shown = f"{tokens / middle[side]:7.0f} tokens/s" if side in middle else " " * 16
        print(f"{side:8} {shown} {peak:8.0f} MiB")
    for side in [side for side in steps if side != "peft"]:
        speed, size = middle["peft"] / middle[side], peaks[side] / peaks["peft"]
        print(f"{side} over PEFT: tokens/s {speed:.2f}, memory {size:.2f}")


if __name__ == "__main__":
    main()
