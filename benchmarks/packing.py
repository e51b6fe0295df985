"""Packed rows beside padded batches: how much of what goes through the model is text, and useful tokens per second.

    python benchmarks/packing.py [--files FOLDER] [--context 1024] [--rows 8] [--steps 6] [--repeats 3] [--hidden 256]

Instructions are from the `.jsonl` files of a folder (prompt and completion, or instruction and instances); without one,
questions about the standard library, answered by its docstrings. Four ways to make batches of them: padded to the
context; padded to the longest of the batch, in a random order (what a trainer does unasked); the same of examples that
are sorted by length in heaps of fifty batches (transformers' `group_by_length`); and packed. Then each repeat takes one
model through so many batches of each way, forward and backward, one way after the other; printed are medians.
Last, how long the plan for a million documents takes.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tilth.data.batches.batch import IGNORE, Batch
from tilth.data.batches.feed import Feed
from tilth.data.batches.packed import packed_rows
from tilth.data.batches.packing import Packing, PackingConfig, best_fit, pack
from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer, build
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.training.loss import summed_loss

if TYPE_CHECKING:
    from benchmarks.worker import Turns

HEAP = 50


def examples(folder: Path | None) -> Iterator[str]:
    """Prompt and answer, as one text each."""
    for path in sorted(folder.glob("*.jsonl")) if folder else ():
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            if "prompt" in row:
                yield f"{row['prompt']}\n{row['completion']}"
            for instance in row.get("instances", ()):
                yield f"{row['instruction']}\n{instance['input']}\n{instance['output']}"
    for path in () if folder else sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"What does {path.stem}.{node.name} do?\n{text}"


def encoded(texts: list[str], folder: Path, context: int) -> TokenStream:
    """The texts that fit into the context, as a shard."""
    tokenizer = train_tokenizer(TokenizerConfig(vocab_size=4096), texts)
    tokens = [tokenizer.encode_documents([text]) for text in texts]
    rows = [encoded_document(f"{n:032x}", ids, 1) for n, ids in enumerate(tokens) if len(ids) <= context + 1]
    write_shard(folder / "shard", rows, tokenizer.vocab_size, tokenizer.fingerprint)
    return TokenStream([Shard(folder / "shard")])


def padded(stream: TokenStream, rows: int, order: list[int], width: int | None) -> list[Batch]:
    """Examples in this order, padded to `width`, or to the longest of their batch. What is to the right of an example
    needs no mask: attention is causal.
    """
    borders = [*stream.document_starts().tolist(), stream.tokens]
    batches = []
    for first in range(0, len(order) - rows + 1, rows):
        own = [stream.read(borders[n], borders[n + 1] - borders[n]) for n in order[first : first + rows]]
        length = width or max(map(len, own)) - 1
        inputs, labels = np.zeros((rows, length), np.int64), np.full((rows, length), IGNORE, np.int64)
        for row, ids in enumerate(own):
            inputs[row, : len(ids) - 1], labels[row, : len(ids) - 1] = ids[:-1], ids[1:]
        batches.append(Batch(inputs, labels, np.arange(rows)))
    return batches


def by_length(order: list[int], lengths: list[int], rows: int) -> list[int]:
    """Heaps of fifty batches, each sorted by length."""
    heaps = [order[first : first + HEAP * rows] for first in range(0, len(order), HEAP * rows)]
    return [n for heap in heaps for n in sorted(heap, key=lambda n: -lengths[n])]


def packed(packing: Packing, rows: int) -> list[Batch]:
    """All rows in a random order."""
    order = np.random.default_rng(0).permutation(packing.rows)
    return [packed_rows(packing, order[n : n + rows], order[n : n + rows]) for n in range(0, len(order), rows)]


def useful(batches: list[Batch]) -> float:
    """The share of positions that bear loss; here that is every one that is no padding."""
    return sum(batch.valid_labels for batch in batches) / sum(batch.input_ids.size for batch in batches)


def seconds(model: Transformer, batches: list[Batch]) -> float:
    """Forward and backward of these batches."""
    start = time.perf_counter()
    for batch in batches:
        feed = Feed.of(batch, torch.device("cpu"))
        loss = summed_loss(feed.hidden(model, "fp32"), model.output_weight, feed.labels) / batch.valid_labels
        loss.backward()
        model.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def made(stream: TokenStream, context: int, rows: int) -> dict[str, list[Batch]]:
    """The batches of each way."""
    lengths = np.diff(stream.document_starts(), append=stream.tokens).tolist()
    order = random.Random(0).sample(range(stream.documents), stream.documents)
    return {
        "padded to the context": padded(stream, rows, order, context),
        "padded to the longest": padded(stream, rows, order, None),
        "grouped by length": padded(stream, rows, by_length(order, lengths, rows), None),
        "packed": packed(pack(stream, context, PackingConfig()), rows),
    }


def shape(context: int, hidden: int) -> ModelConfig:
    """The model that all ways go through."""
    return ModelConfig(vocab_size=4096, hidden_size=hidden, num_hidden_layers=2, context_length=context)


def speed_of(model: Transformer, batches: list[Batch], steps: int, repeat: int) -> float:
    """Useful tokens a second over some of the batches."""
    some = random.Random(repeat).sample(batches, min(steps, len(batches)))
    return sum(batch.valid_labels for batch in some) / seconds(model, some)


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One way for the suite: useful tokens a second, and how many of a hundred positions are useful."""
    context, repeat = options["context"], 0
    with tempfile.TemporaryDirectory() as folder:
        stream = encoded(list(examples(None)), Path(folder), context)
        batches = made(stream, context, options["rows"])[options["way"]]
    model = build(shape(context, options["hidden"]), 0)
    speed_of(model, batches, 1, 0)
    turns.ready()
    while turns.wait():
        turns.give(speed=speed_of(model, batches, options["steps"], repeat), useful=100 * useful(batches))
        repeat += 1


def million() -> float:
    """Seconds to plan rows for a million documents."""
    sizes = np.random.default_rng(0).lognormal(5.3, 1.0, 1_000_000).astype(np.int64).clip(1, 2048)
    start = time.perf_counter()
    best_fit(sizes, 2048)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=256, help="the model's hidden_size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stream = encoded(list(examples(given.files)), Path(folder), given.context)
        ways = made(stream, given.context, given.rows)
        model, speeds = build(shape(given.context, given.hidden), 0), {name: list[float]() for name in ways}
        for repeat in range(given.repeats):
            for name, batches in ways.items():
                speeds[name].append(speed_of(model, batches, given.steps, repeat))
        best = statistics.median(speeds["packed"])
        print(f"{stream.documents:,} examples, {stream.tokens:,} tokens, context {given.context}, {given.rows} rows")
        for name, batches in ways.items():
            speed = statistics.median(speeds[name])
            print(
                f"{name:24} {len(batches):5} batches  useful {useful(batches):6.1%}  {speed:9,.0f} useful tokens/s"
                f"  packed is {useful(ways['packed']) / useful(batches):.2f} and {best / speed:.2f} times that"
            )
    print(f"plan for 1,000,000 documents: {million():.2f} s")


if __name__ == "__main__":
    main()
