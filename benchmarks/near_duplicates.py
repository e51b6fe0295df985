"""Near-deduplication end to end, tilth beside datatrove: documents a second, what each finds, what each drops wrongly.

    python benchmarks/near_duplicates.py [--peer-python PATH]     (a Python with datatrove[processing] and orjson)

The corpus is cut from the sources of the Python that runs this and of its packages, with near-duplicates planted at
known Jaccard similarities: runs of words in the middle of a document written anew. Both get the same JSON Lines, word
5-grams and 14 bands of 8 hashes, and both processors; whole processes are timed, one after the other in turn, from JSON
Lines to the documents that stay (tilth writes token shards besides). Words of the truth are runs of letters and digits,
lower case; neither system's own.
"""

from __future__ import annotations

import argparse
import collections
import compileall
import json
import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Turns

SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
NGRAM = 5
WORD = r"[^\W_]+"
DOCUMENT = 2000
TRUTH = 0.75
Shingles = frozenset[tuple[str, ...]]


def texts(count: int) -> Iterator[str]:
    """Pieces of about 2 kB of the sources of Python, and of the packages that are installed beside it."""
    given, left_out = 0, {"test", "tests", "encodings", "site-packages"}
    for folder in (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")):
        for path in sorted(folder.rglob("*.py")):
            if left_out & set(path.relative_to(folder).parts):
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            for start in range(0, len(text) - DOCUMENT // 2, DOCUMENT):
                yield text[start : start + DOCUMENT]
                given += 1
                if given == count:
                    return
    raise SystemExit(f"these sources give {given} documents only: use --documents {given}")


def shingles(text: str) -> Shingles:
    """The word 5-grams of a text."""
    words = re.findall(WORD, text.lower())
    return frozenset(tuple(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1)))


def jaccard(a: Shingles, b: Shingles) -> float:
    """|A and B| / |A or B|."""
    return len(a & b) / len(a | b)


def altered(text: str, similarity: float, draw: random.Random) -> str:
    """The text with a run of its words made others, so that about `similarity` of the 5-grams stay common."""
    words = list(re.finditer(WORD, text))
    grams = len(words) - NGRAM + 1
    run = max(1, round(grams * (1 - similarity) / (1 + similarity)) - NGRAM + 1)
    start = draw.randrange(NGRAM, max(NGRAM + 1, len(words) - NGRAM - run))
    pieces, at = [], 0
    for match in words[start : start + run]:
        pieces += [text[at : match.end()], draw.choice("qxzj")]
        at = match.end()
    return "".join([*pieces, text[at:]])


def write_corpus(path: Path, documents: int, seed: int) -> list[tuple[str, str, float]]:
    """Writes JSON Lines into a new folder; returns the planted pairs (id, id, real similarity)."""
    draw = random.Random(seed)
    rows = [{"id": f"base-{n}", "text": text} for n, text in enumerate(texts(documents))]
    long = [row for row in rows if len(re.findall(WORD, row["text"])) > 150]
    pairs = []
    for number, row in enumerate(draw.sample(long, min(len(long), documents // 5))):
        similarity = SIMILARITIES[number % len(SIMILARITIES)]
        other = {"id": f"planted-{number}", "text": altered(row["text"], similarity, draw)}
        pairs.append((row["id"], other["id"], jaccard(shingles(row["text"]), shingles(other["text"]))))
        rows.append(other)
    draw.shuffle(rows)
    path.mkdir()
    for part in range(2):  # two files: a task of either system reads whole files, and there are two processors
        lines = "".join(json.dumps(row) + "\n" for row in rows[part::2])
        (path / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    return pairs


def read_corpus(path: Path) -> dict[str, str]:
    """The texts by id."""
    lines = (line for file in sorted(path.iterdir()) for line in file.open(encoding="utf-8"))
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


def run_tilth(corpus: Path, folder: Path) -> float:
    """Seconds of `tilth prepare`; its modules are compiled, as those of a package that pip installed are."""
    spec = util.find_spec("tilth")
    for place in (spec and spec.submodule_search_locations) or ():
        compileall.compile_dir(place, quiet=2)
    recipe = {
        "name": "bench",
        "data": {
            "sources": [{"path": str(corpus)}],
            "clean": "none",
            "deduplicate": {"ngram": NGRAM, "bands": 14, "rows": 8, "threshold": TRUTH},
            "split": {"validation": 0},
            "shard_bytes": 1 << 23,
        },
        "tokenizer": {"kind": "byte"},
        "train": {"steps": 1},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "tilth", "prepare", "recipe.yaml", "--workspace", "work", "--workers", "2"]
    return timed(command, folder)


def run_datatrove(corpus: Path, folder: Path, python: str) -> float:
    """Seconds of datatrove's four steps."""
    peer = Path(__file__).parent / "peers" / "datatrove_minhash.py"
    return timed([python, str(peer), str(corpus), str(folder)], folder)


def timed(command: list[str], folder: Path) -> float:
    """Wall time of a whole process; what was written before it lies on the disk then, and keeps nobody waiting."""
    os.sync()
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "CI": "1"})
    if done.returncode:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - start


def kept_by_tilth(folder: Path, ids: dict[str, str]) -> set[str]:
    """The ids of the documents that stayed, by their text."""
    import pyarrow.parquet as pq

    files = sorted(folder.glob("work/datasets/*/documents/train/*.parquet"))
    return {ids[text] for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()}


def kept_by_datatrove(folder: Path) -> set[str]:
    """The ids of the documents that stayed."""
    lines = (line for file in sorted(folder.glob("kept/*.jsonl")) for line in file.open(encoding="utf-8"))
    return {json.loads(line)["id"] for line in lines}


def quality(kept: set[str], rows: dict[str, str], pairs: list[tuple[str, str, float]]) -> dict[str, float]:
    """Share of planted pairs of which one went, by similarity; share of what went that was a near-duplicate."""
    figures: dict[str, float] = {}
    by_band = collections.defaultdict(list)
    for first, second, similarity in pairs:
        by_band[min(SIMILARITIES, key=lambda s: abs(s - similarity))].append(not {first, second} <= kept)
    for similarity in SIMILARITIES:
        figures[f"found at {similarity:.2f}"] = statistics.mean(by_band[similarity])
    over = [not {first, second} <= kept for first, second, similarity in pairs if similarity >= TRUTH]
    figures[f"recall at {TRUTH} and more"] = statistics.mean(over)
    sets = {name: shingles(text) for name, text in rows.items()}
    where = collections.defaultdict(list)
    for name in kept:
        for gram in sets[name]:
            where[gram].append(name)
    right = []
    for name in rows.keys() - kept:
        near = collections.Counter(other for gram in sets[name] for other in where[gram] if len(where[gram]) < 500)
        right.append(any(jaccard(sets[name], sets[other]) >= TRUTH - 0.02 for other, _ in near.most_common(20)))
    figures["dropped"] = len(right)
    figures["precision"] = statistics.mean(right) if right else float("nan")
    return figures


def prepare(folder: str, options: dict[str, Any]) -> None:
    """The corpus for the suite, and the pairs that were planted."""
    pairs = write_corpus(Path(folder) / "corpus", options["documents"], seed=1)
    (Path(folder) / "pairs.json").write_text(json.dumps(pairs))


def version(python: str) -> str:
    """Of datatrove, as that Python has it."""
    code = "import importlib.metadata as m; print(m.version('datatrove'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One side for the suite: documents a second, recall of the planted pairs, and how much of what went was a copy."""
    corpus, side = Path(options["folder"]) / "corpus", options["side"]
    pairs = [tuple(pair) for pair in json.loads((corpus.parent / "pairs.json").read_text())]
    rows, number = read_corpus(corpus), 0
    ids = {text: name for name, text in rows.items()}
    turns.ready(**({} if side == "tilth" else {"version": version(options["peer_python"])}))
    while turns.wait():
        folder = Path(f"turn-{number}").absolute()
        folder.mkdir()
        tilth = side == "tilth"
        seconds = run_tilth(corpus, folder) if tilth else run_datatrove(corpus, folder, options["peer_python"])
        kept = kept_by_tilth(folder, ids) if tilth else kept_by_datatrove(folder)
        found = quality(kept, rows, pairs)
        recall, precision = 100 * found[f"recall at {TRUTH} and more"], 100 * found["precision"]
        turns.give(speed=len(rows) / seconds, recall=recall, precision=precision)
        number += 1


def warm_up(folder: Path, peer_python: str) -> None:
    """Both once on little text: modules are read from the disk for the first time."""
    for side in ("tilth", "datatrove"):
        (folder / side).mkdir(parents=True)
    write_corpus(folder / "corpus", 500, seed=0)
    run_tilth(folder / "corpus", folder / "tilth")
    run_datatrove(folder / "corpus", folder / "datatrove", peer_python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="near-duplicates-") as scratch:
        warm_up(Path(scratch) / "warm-up", options.peer_python)
        corpus = Path(scratch) / "corpus"
        pairs = write_corpus(corpus, options.documents, options.seed)
        rows = read_corpus(corpus)
        seconds: dict[str, list[float]] = {"tilth": [], "datatrove": []}
        for repeat in range(options.repeats):
            ours, theirs = (Path(scratch) / f"{name}-{repeat}" for name in seconds)
            ours.mkdir()
            theirs.mkdir()
            seconds["tilth"].append(run_tilth(corpus, ours))
            seconds["datatrove"].append(run_datatrove(corpus, theirs, options.peer_python))
        size = sum(file.stat().st_size for file in corpus.iterdir()) / 1e6
        print(f"{len(rows):,} documents, {size:.1f} MB, {len(pairs):,} planted; word {NGRAM}-grams, 14 x 8, 2 workers")
        for name, times in seconds.items():
            median = statistics.median(times)
            spread = f"{min(times):.1f} to {max(times):.1f} s"
            print(f"{name:<10} {len(rows) / median:9,.0f} documents/s  {size / median:6.2f} MB/s  ({spread})")
        ratios = [b / a for a, b in zip(seconds["tilth"], seconds["datatrove"], strict=True)]
        print(f"ratio      {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
        ids = {text: name for name, text in rows.items()}
        found = [
            quality(kept_by_tilth(ours, ids), rows, pairs),
            quality(kept_by_datatrove(theirs), rows, pairs),
        ]
        for key in found[0]:
            print(f"{key:<26} tilth {found[0][key]:8.3f}   datatrove {found[1][key]:8.3f}")


if __name__ == "__main__":
    main()
