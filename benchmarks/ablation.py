"""What each option of the preset `modern`, and of its training, is worth: one at a time taken out, or put in.

    python -m benchmarks.ablation --text FILE [--steps 240] [--seeds 1 2 3] [--only NAME …] --out FILE.jsonl

Every run is `tilth.train` on tiny Shakespeare's first nine tenths: a model of 4 layers, 128 wide, 12 rows of 64
characters a step, the same tokens for all of a seed, on one thread in fp32. The figure is the loss of a full pass over
the last tenth after the last step. Runs are written down one by one and not done again, so that an ablation which ended
early goes on; the table, in Markdown, is printed from the file at the end. A gain is beyond the spread where the worst
seed with the option is better than the best without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import tilth
from benchmarks.results import machine, source
from tilth.core.environment import usable_cpus

Row = dict[str, Any]
LINEAR = {"name": "linear", "warmup_steps": 20, "final": 0.0}

CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "modern": ("as the preset is", {}, {}),
    "no-qk-norm": ("without `qk_norm`", {"qk_norm": False}, {}),
    "gelu": ("`activation: gelu` for relu2", {"activation": "gelu"}, {}),
    "learned": ("`position: learned` for rotary", {"position": "learned"}, {}),
    "untied": ("`tie_word_embeddings: false`", {"tie_word_embeddings": False}, {}),
    "adamw": ("`optimizer: adamw`, lr 3e-3, for muon", {}, {"optimizer": {"name": "adamw", "lr": 3e-3}}),
    "cosine": (
        "`schedule: cosine` to a tenth for linear to 0",
        {},
        {"schedule": {"name": "cosine", "warmup_steps": 20}},
    ),
    "wsd": (
        "`schedule: wsd`, last half, to 0",
        {},
        {"schedule": {"name": "wsd", "warmup_steps": 20, "decay_share": 0.5, "final": 0.0}},
    ),
}
"""By name: what the table says, and what is other in `model` and in `train`."""


def recipe(name: str, text: str, steps: int, seed: int) -> dict[str, Any]:
    """The recipe of one run."""
    _, model, train = CHANGES[name]
    shape = {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 128, "context_length": 64}
    return {
        "name": "ablation",
        "data": {"sources": [{"path": text}], "clean": "none", "split": {"validation": 0.1, "by": "tail"}},
        "tokenizer": {"kind": "char"},
        "model": {"preset": "modern", **shape, **model},
        "train": {
            "steps": steps,
            "batch_tokens": 768,
            "micro_batch": 12,
            "optimizer": {"name": "muon", "lr": 6e-3},
            "schedule": LINEAR,
            "precision": "fp32",
            "device": "cpu",
            "checkpoint": {"every_steps": None, "every_minutes": None, "best": False},
            "seed": seed,
            **train,
        },
        "evaluate": {"every": None},
    }


def run(name: str, text: str, steps: int, seed: int, work: Path) -> Row:
    """Trains once; what comes of it as a line."""
    folder = work / f"{name}-{seed}"
    done = tilth.train(tilth.make_recipe(recipe(name, text, steps, seed)), folder, work / "data", workers=1)
    row = {"change": name, "steps": steps, "seed": seed, "loss": done["validation_loss"], "source": source()}
    return {**row, "torch": torch.__version__, "machine": machine()["processor"], "cpus": usable_cpus()}


def table(rows: Iterable[Row]) -> str:
    """Markdown, a line for each change that has a run."""
    found = list(rows)
    base = [row["loss"] for row in found if row["change"] == "modern"]
    lines = ["| change | loss, mean | least to most | seeds | against the preset |", "|---|---|---|---|---|"]
    for name, (words, _, _) in CHANGES.items():
        if losses := [row["loss"] for row in found if row["change"] == name]:
            mean = statistics.fmean(losses)
            other = f"{mean - statistics.fmean(base):+.4f}" if base else "unknown"
            span = f"{min(losses):.4f} to {max(losses):.4f}"
            lines.append(f"| {words} | {mean:.4f} | {span} | {len(losses)} | {'' if name == 'modern' else other} |")
    return "\n".join(lines)


def read(path: Path, steps: int) -> list[Row]:
    """The runs of so many steps that are written down."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if row["steps"] == steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, metavar="FILE", help="tiny Shakespeare")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    have = {(row["change"], row["seed"]) for row in read(given.out, given.steps)}
    with tempfile.TemporaryDirectory(prefix="tilth-ablation-") as work:
        for name in given.only:
            for seed in given.seeds:
                if (name, seed) not in have:
                    row = run(name, str(Path(given.text).absolute()), given.steps, seed, Path(work))
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(f"{name}, seed {seed}: {row['loss']:.4f}", flush=True)
    print(table(read(given.out, given.steps)))


if __name__ == "__main__":
    main()
