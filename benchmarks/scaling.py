"""What twice and four times the text costs: seconds and memory of `tilth prepare`, from JSON Lines to shards.

    python benchmarks/scaling.py [--megabytes 50] [--times 1 2 4] [--workers 2]
    python benchmarks/scaling.py --lines 1000000      documents of 40 bytes, a line each, not cleaned
    python benchmarks/scaling.py --megabytes 4000 --times 1 --varied      documents of 1 to 20 kB, in eight files

Documents are made of sentences of the documentation that came with Python, drawn anew for each, so that no two are
alike; with `--varied` they are cut anywhere out of the sources of Python and of its packages, and a tenth of their
words are others. One in ten is a near-duplicate of another. Cleaning is `standard`, deduplication `near`, the tokenizer
is trained here. Memory is looked at five times a second: the most that the largest process held, and that all held
together, what they share counted once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pydoc_data.topics
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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


def write_varied(folder: Path, size: int, seed: int, files: int = 8) -> int:
    """Writes about `size` bytes of JSON Lines in documents of 1 to 20 kB into a new folder; returns how many."""
    draw, number = random.Random(seed), 0
    folder.mkdir()
    words = [text.split(" ") for text in _sources()]
    known = sorted({word for some in words[::50] for word in some if word.isalpha()})
    last = [""]
    for part in range(files):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            while file.tell() < size / files:
                if number % 10 == 9:
                    last = list(last)
                    last[draw.randrange(len(last))] = f"another-{number}"
                else:
                    last = _cut(draw.choice(words), known, draw)
                file.write(json.dumps({"text": " ".join(last)}, ensure_ascii=False) + "\n")
                number += 1
    return number


def _sources() -> list[str]:
    """The sources of Python and of its packages, all but the small ones."""
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    paths = dict.fromkeys(path for folder in folders for path in sorted(folder.rglob("*.py")))
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.stat().st_size > 1 << 14]


def _cut(words: list[str], known: list[str], draw: random.Random) -> list[str]:
    """1 to 20 kB of a text from anywhere in it, of which a tenth of the words are others."""
    each = max(1, sum(map(len, words[:1000])) // min(len(words), 1000) + 1)
    count = min(len(words), 1 + draw.randrange(1000, 20000) // each)
    start = draw.randrange(len(words) - count + 1)
    own = words[start : start + count]
    for place in draw.choices(range(count), k=count // 10):
        own[place] = known[int(draw.random() * len(known))]
    return own


class Memory:
    """What a process and all that come of it hold, looked at now and then while this context is open.

    Attributes:
        largest: the most bytes that one of them held (its resident set).
        together: the most that all held, what they share counted once (their proportional sets).
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self.largest = self.together = 0
        self._seconds, self._ended = seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            held = [_held(pid) for pid in _descendants(os.getpid())]
            self.largest = max([self.largest, *(resident for resident, _ in held)])
            self.together = max(self.together, sum(proportional for _, proportional in held))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = list(children.get(root, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def _held(pid: int) -> tuple[int, int]:
    """Bytes that a process holds: its resident and its proportional set; nothing where it has ended."""
    with contextlib.suppress(OSError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = dict(re.findall(r"^(Rss|Pss): +([0-9]+) kB", rollup, re.MULTILINE))
        return int(found.get("Rss", 0)) << 10, int(found.get("Pss", 0)) << 10
    return 0, 0


def prepare(corpus: Path, folder: Path, workers: int, **data: Any) -> tuple[float, Memory]:
    """Wall seconds of a run, and what its processes held."""
    source = {"path": str(corpus)} | ({"document": "line"} if corpus.suffix == ".txt" else {})
    recipe = {
        "name": "scaling",
        "data": {"sources": [source], "deduplicate": "near", **data},
        "tokenizer": {"vocab_size": 8192},
        "train": {"steps": 1},
    }
    folder.mkdir()
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "tilth", "prepare", "recipe.yaml", "--workers", str(workers)]
    start = time.perf_counter()
    with Memory() as memory:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "CI": "1"})
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    print("".join(f"    {line}\n" for line in done.stderr.splitlines()), end="")
    return seconds, memory


def _bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One size for the suite: MB a second, seconds, and the memory of the largest process."""
    corpus, number = Path("corpus.jsonl").absolute(), 0
    write_corpus(corpus, int(options["times"] * options["megabytes"] * 1e6), seed=options["times"])
    turns.ready()
    while turns.wait():
        seconds, memory = prepare(corpus, Path(f"turn-{number}").absolute(), options["threads"])
        size = corpus.stat().st_size / 1e6
        turns.give(speed=size / seconds, time=seconds, memory=memory.largest / 2**20)
        number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--lines", type=int)
    parser.add_argument("--varied", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    lines = []
    for times in sorted(options.times):
        with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
            more = {"clean": "none"} if options.lines else {}
            if options.lines:
                corpus = Path(scratch) / "corpus.txt"
                documents = write_lines(corpus, times * options.lines, seed=times)
            elif options.varied:
                corpus = Path(scratch) / "corpus"
                documents = write_varied(corpus, times * options.megabytes * 10**6, seed=times)
            else:
                corpus = Path(scratch) / "corpus.jsonl"
                documents = write_corpus(corpus, times * options.megabytes * 10**6, seed=times)
            megabytes = _bytes(corpus) / 1e6
            seconds, memory = prepare(corpus, Path(scratch) / "run", options.workers, **more)
            lines.append(
                f"{times:3} x {megabytes / times:,.0f} MB  {documents:10,} documents  {seconds:8.1f} s  "
                f"{megabytes / seconds:6.2f} MB/s  largest process {memory.largest / 2**20:6,.0f} MiB, "
                f"all {memory.together / 2**20:6,.0f} MiB"
            )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
