"""The largest micro-batch of well-known shapes in some sizes of memory, by the forecast of memory: no run is made.

    python benchmarks/fit_table.py [--models gpt2 gpt2-medium gpt2-large] [--rooms 6GiB 8GiB 12GiB 24GiB]
                                   [--tokens 512] [--precision bf16]

Full training and LoRA (default rank, all linear layers), with and without activation checkpointing; a process on this
machine's CPU, its own memory counted.
"""

from __future__ import annotations

import argparse

import torch

from tilth.jobs.forecasting.fit import fits, parse_bytes
from tilth.jobs.recipe import make_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["gpt2", "gpt2-medium", "gpt2-large"])
    parser.add_argument("--rooms", nargs="*", default=["6GiB", "8GiB", "12GiB", "24GiB"])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    options = parser.parse_args()
    print("| model | memory | full | full, checkpointing | LoRA | LoRA, checkpointing |\n|---|---|---|---|---|---|")
    for model in options.models:
        recipe = make_recipe(
            {
                "name": model,
                "data": {"sources": [{"path": "none.txt"}], "split": {"validation": 0}},
                "tokenizer": {"kind": "byte"},
                "model": {"preset": model, "vocab_size": 50257, "context_length": options.tokens},
                "train": {"steps": 1, "batch_tokens": options.tokens},
            }
        )
        for room in options.rooms:
            found = fits(recipe, recipe.model, torch.device("cpu"), parse_bytes(room), options.precision)
            print(f"| {model} | {room} | " + " | ".join(str(fit.micro_batch) for fit in found) + " |", flush=True)


if __name__ == "__main__":
    main()
