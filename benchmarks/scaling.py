"""What twice and four times the text costs: seconds and memory of `tilth prepare`, from JSON Lines to shards.

    python benchmarks/scaling.py [--megabytes 50] [--times 1 2 4] [--workers 2]
    python benchmarks/scaling.py --lines 1000000      documents of 40 bytes, a line each, not cleaned

Documents are made of sentences of the documentation that came with Python, drawn anew for each, so that no two are
alike; one in ten is a near-duplicate of another. Cleaning is `standard`, deduplication `near`, the tokenizer is trained
here. Memory is the largest of all processes that took part.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Turns


def sentences() -> list[str]:
    """Sentences of the language reference."""
    text = " ".join(pydoc_data.topics.topics.values())
    return [sentence for sentence in re.split(r"(?<=[.:]) +", " ".join(text.split())) if 20 < len(sentence) < 300]


def write_corpus(path: Path, size: int, seed: int) -> int:
    """Writes about `size` bytes of JSON Lines in documents of about 2 kB; returns how many."""
    draw, known, number, written = random.Random(seed), sentences(), 0, 0
    last: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            if number % 10 == 9:
                last[draw.randrange(len(last))] = f"This sentence is another one in document {number}."
            else:
                words = (draw.choices(known, k=draw.randint(5, 25)), [str(draw.getrandbits(64)) for _ in range(30)])
                last = [f"{sentence} {words[1][n % 30]}" for n, sentence in enumerate(words[0])]
            line = json.dumps({"text": " ".join(last)}) + "\n"
            file.write(line)
            written += len(line)
            number += 1
    return number


def write_lines(path: Path, number: int, seed: int) -> int:
    """Writes documents of about 40 bytes, one a line; one in ten stood before. Returns how many."""
    draw = random.Random(seed)
    known = sorted({word for sentence in sentences() for word in sentence.split() if word.isalpha()})
    last = ""
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            if place % 10 != 9:
                last = " ".join(draw.choices(known, k=6))
            file.write(last + "\n")
    return number


def prepare(corpus: Path, folder: Path, workers: int, **data: Any) -> tuple[float, int]:
    """Wall seconds of a run, and the bytes that its largest process held."""
    recipe = {
        "name": "scaling",
        "data": {"sources": [{"path": str(corpus), "document": "line"}], "deduplicate": "near", **data},
        "tokenizer": {"vocab_size": 8192},
        "train": {"steps": 1},
    }
    folder.mkdir()
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "tilth", "prepare", "recipe.yaml", "--workers", str(workers)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "CI": "1"})
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    print("".join(f"    {line}\n" for line in done.stderr.splitlines()), end="")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One size for the suite: MB a second, seconds, and the memory of the largest process."""
    corpus, number = Path("corpus.jsonl").absolute(), 0
    write_corpus(corpus, int(options["times"] * options["megabytes"] * 1e6), seed=options["times"])
    turns.ready()
    while turns.wait():
        seconds, memory = prepare(corpus, Path(f"turn-{number}").absolute(), options["threads"])
        size = corpus.stat().st_size / 1e6
        turns.give(speed=size / seconds, time=seconds, memory=memory / 2**20)
        number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--lines", type=int)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    lines = []
    for times in sorted(options.times):  # memory is a maximum over all runs so far: the smallest first
        with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
            more = {"clean": "none"} if options.lines else {}
            if options.lines:
                corpus = Path(scratch) / "corpus.txt"
                documents = write_lines(corpus, times * options.lines, seed=times)
            else:
                corpus = Path(scratch) / "corpus.jsonl"
                documents = write_corpus(corpus, times * options.megabytes * 10**6, seed=times)
            megabytes = corpus.stat().st_size / 1e6
            seconds, memory = prepare(corpus, Path(scratch) / "run", options.workers, **more)
            lines.append(
                f"{times:3} x {megabytes / times:,.0f} MB  {documents:10,} documents  {seconds:8.1f} s  "
                f"{megabytes / seconds:6.2f} MB/s  largest process {memory / 2**20:6,.0f} MiB"
            )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
