"""The forecast of memory and time against what runs took: each run a process of its own, through `tilth.train`.

    python benchmarks/forecast.py [--only NAME …] [--folder DIR] [--json FILE]

The text is random words, the weights are random: neither changes what a run takes. Memory is the largest resident size
of the process (VmHWM), which the run itself records; time is the median of its steps after the first. `above` leaves
out what a process takes before it has a model, on both sides: small runs are mostly that, and would flatter.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tilth
from tilth.core.allocator import drop_thread_caches

SMALL = {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 256}
MEDIUM = {"num_hidden_layers": 6, "num_attention_heads": 6, "hidden_size": 384}
LARGE = {"num_hidden_layers": 8, "num_attention_heads": 8, "hidden_size": 512}
WIDE = {"num_hidden_layers": 3, "num_attention_heads": 12, "hidden_size": 768}


def case(shape: dict[str, Any], context: int, rows: int, micro: int, vocab: int = 8192, **other: Any) -> dict[str, Any]:
    """A recipe: `rows` a step of `context` tokens, `micro` at once."""
    train = {
        "steps": 3,
        "batch_tokens": rows * context,
        "micro_batch": micro,
        "precision": "fp32",
        "schedule": {"name": "constant"},
        **other.pop("train", {}),
    }
    model = {"preset": "llama-tiny", **shape, "context_length": context, "vocab_size": vocab, **other.pop("model", {})}
    return {"model": model, "train": train, "evaluate": {"every": None, "batch_tokens": 4096}, **other}


FULL, SOME = {"activation_checkpointing": "full"}, {"activation_checkpointing": 3}
GPT2 = {"preset": "gpt2"}
COMPILE = {"compile": True}
CASES = {
    "small": case(SMALL, 256, 16, 16),
    "small-long": case(SMALL, 1024, 4, 4),
    "small-bf16": case(SMALL, 256, 16, 16, train={"precision": "bf16"}),
    "small-drop": case(SMALL, 256, 16, 16, model={"dropout": 0.1}),
    "small-accumulate": case(SMALL, 256, 32, 8),
    "small-drop-accumulate": case(SMALL, 256, 32, 8, model={"dropout": 0.1}),
    "small-drop-gpt2": case(SMALL, 512, 16, 8, model={**GPT2, "dropout": 0.1}),
    "small-apart": case(SMALL, 512, 8, 8, data={"cross_document_attention": False}),
    "medium": case(MEDIUM, 256, 8, 8, model=GPT2),
    "medium-batch": case(MEDIUM, 256, 24, 24, model=GPT2),
    "medium-bf16": case(MEDIUM, 256, 16, 16, model=GPT2, train={"precision": "bf16"}),
    "medium-full": case(MEDIUM, 256, 16, 16, model=GPT2, train=FULL),
    "medium-some": case(MEDIUM, 256, 16, 16, model=GPT2, train=SOME),
    "medium-some-drop": case(MEDIUM, 256, 16, 16, model={**GPT2, "dropout": 0.1}, train=SOME),
    "medium-muon": case(MEDIUM, 256, 8, 8, train={"optimizer": {"name": "muon"}}),
    "medium-sgd": case(MEDIUM, 256, 8, 8, train={"optimizer": {"name": "sgd", "lr": 0.01}}),
    "medium-vocab": case(MEDIUM, 256, 8, 8, 50257),
    "medium-evaluation": case(SMALL, 256, 4, 1, evaluate={"every": None, "batch_tokens": 65536}),
    "large": case(LARGE, 256, 4, 4, 16384),
    "large-full": case(LARGE, 256, 8, 8, 16384, train=FULL),
    "large-some": case(LARGE, 256, 8, 8, 16384, train=SOME),
    "large-full-bf16": case(LARGE, 512, 8, 8, 16384, train={**FULL, "precision": "bf16"}),
    "large-bf16": case(LARGE, 512, 4, 4, 16384, train={"precision": "bf16"}),
    "wide": case(WIDE, 512, 2, 2, 32768, model=GPT2),
    "wide-accumulate": case(WIDE, 512, 4, 2, 32768, model=GPT2),
    "wide-long-full": case(WIDE, 1024, 4, 4, 16384, train=FULL),
    "lora": case(LARGE, 256, 8, 8, 16384, adapter={"rank": 8}),
    "lora-bf16": case(LARGE, 512, 8, 8, 16384, adapter={"rank": 8}, train={"precision": "bf16"}),
    "lora-full": case(LARGE, 512, 8, 8, 16384, adapter={"rank": 8}, train=FULL),
    "lora-some": case(LARGE, 512, 8, 8, 16384, adapter={"rank": 8}, train=SOME),
    "lora-nf4": case(LARGE, 256, 8, 8, 16384, adapter={"rank": 8, "quantize": "nf4"}),
    "lora-wide": case(WIDE, 512, 4, 4, 32768, adapter={"rank": 16}, model=GPT2),
    "compiled": case(SMALL, 256, 16, 16, train=COMPILE),
    "compiled-drop": case(SMALL, 256, 16, 16, model={"dropout": 0.1}, train=COMPILE),
    "compiled-apart": case(SMALL, 256, 16, 16, data={"cross_document_attention": False}, train=COMPILE),
    "compiled-long": case(SMALL, 512, 16, 16, train=COMPILE),
    "compiled-accumulate": case(SMALL, 256, 32, 8, train=COMPILE),
    "compiled-bf16": case(SMALL, 256, 16, 16, train={**COMPILE, "precision": "bf16"}),
    "compiled-medium": case(MEDIUM, 256, 16, 16, model=GPT2, train=COMPILE),
    "compiled-medium-drop": case(MEDIUM, 256, 16, 16, model={**GPT2, "dropout": 0.1}, train=COMPILE),
    "compiled-medium-bf16": case(MEDIUM, 256, 16, 16, model=GPT2, train={**COMPILE, "precision": "bf16"}),
    "compiled-medium-full": case(MEDIUM, 512, 16, 16, model=GPT2, train={**COMPILE, **FULL}),
    "compiled-medium-some": case(MEDIUM, 512, 16, 16, model=GPT2, train={**COMPILE, **SOME}),
    "compiled-large": case(LARGE, 256, 8, 8, 16384, train=COMPILE),
    "compiled-wide": case(WIDE, 512, 4, 4, 16384, model=GPT2, train=COMPILE),
}


def write_text(path: Path) -> None:
    """Random words, in lines; a base for adapters is trained on the same."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(2000)]
    path.write_text("\n".join(" ".join(draw.choices(words, k=200)) for _ in range(300)) + "\n")


def recipe_of(name: str, folder: Path) -> tilth.Recipe:
    """A case as a recipe; an adapter's model is a run of one step, made when it is first asked for."""
    plain = json.loads(json.dumps(CASES[name]))
    data = {"sources": [{"path": str(folder / "text.txt")}], "clean": "none", "deduplicate": "none"} | plain.pop(
        "data", {}
    )
    data.setdefault("cross_document_attention", True)
    made = {"name": name, "data": data, "tokenizer": {"kind": "byte"}, **plain}
    if "adapter" in made:
        base = folder / "bases" / name
        if not base.exists():
            first = {key: value for key, value in made.items() if key != "adapter"}
            first["train"] = {
                **made["train"],
                "steps": 1,
                "micro_batch": 1,
                "batch_tokens": made["model"]["context_length"],
            }
            tilth.train(tilth.make_recipe(first), base, folder / "work")
        made["model"] = {"from": str(base), "context_length": made["model"]["context_length"]}
        del made["tokenizer"]
    return tilth.make_recipe(made)


def child(name: str, folder: Path) -> None:
    """One run; what it took and was to take stands in its result.json."""
    tilth.train(recipe_of(name, folder), folder / "runs" / name, folder / "work")


def measured(name: str, folder: Path) -> dict[str, Any]:
    """A run in a process of its own; its base and its data are made in another before."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    subprocess.run([*command, "--prepare"], check=True)
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads((folder / "runs" / name / "result.json").read_text())["forecast"]
    return {"name": name, **found}


def table(found: list[dict[str, Any]]) -> str:
    """As docs/memory.md has it."""
    lines = ["| run | forecast | measured | off | above the process, off | step, forecast | measured |"]
    lines.append("|---|---|---|---|---|---|---|")
    for one in found:
        actual, process = one["actual"], one["parts"]["process"]
        off, above = one["memory"] / actual["memory"] - 1, one["memory"] - process
        off_above = above / (actual["memory"] - process) - 1
        sizes = " | ".join(f"{size / 2**20:,.0f} MiB" for size in (one["memory"], actual["memory"]))
        times = f"{one['step_seconds']:.2f} s | {actual['step_seconds']:.2f} s"
        lines.append(f"| `{one['name']}` | {sizes} | {off:+.1%} | {off_above:+.1%} | {times} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child and options.prepare:
        tilth.prepare(recipe_of(options.child, options.folder), options.folder / "work")
        return
    if options.child:
        drop_thread_caches()  # as the command does
        child(options.child, options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "text.txt")
        found = [measured(name, folder.absolute()) for name in options.only]
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
