"""Documents per second of the quality filters, tilth beside datatrove, on the same documents, one process each.

    python benchmarks/filters.py [--megabytes 4] [--repeats 5] [--files FOLDER]

The corpus is what comes with Python: documentation topics, docstrings and sources of the standard library, and pages
made of their paragraphs of prose; `--files` takes a folder of text files instead. Each repeat times every filter of
both sides, one after the other, on all documents, then the chain of the four: what a filter drops, the next does not
see. There each document of datatrove's goes through all four before the next comes, as in its pipelines, so that its
filters share the words they cut. Printed are medians and ratios. What is done once (tables, spaCy's vocabulary) is done
before.
Needs the peer: `pip install -c constraints.txt -e '.[dev]'`.
"""

from __future__ import annotations

import argparse
import ast
import random
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.data.document import Document
from tilth.data.stages.filters import FILTER_STAGES

if TYPE_CHECKING:
    from benchmarks.worker import Turns

Run = Callable[[list[str]], list[str]]
"""What is left of the texts."""
BATCH = 2_000_000


def python_texts() -> Iterator[str]:
    """Documentation, docstrings and sources of the interpreter that runs this."""
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py")):
        if {"site-packages", "test", "tests"} & set(path.parts):
            continue
        try:
            source = path.read_text("utf-8")
            tree = ast.parse(source)
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        yield from (text for node in nodes if len(text := ast.get_docstring(node) or "") > 200)
        yield source


def corpus(characters: int, files: Path | None) -> list[str]:
    """Texts of about so many characters in all: as they are, and as many again made of paragraphs of others."""
    found = [path.read_text("utf-8") for path in sorted(files.rglob("*.txt"))] if files else list(python_texts())
    generator = random.Random(0)
    generator.shuffle(found)
    parts = (" ".join(part.split()) for text in found for part in text.split("\n\n"))
    paragraphs = [part for part in parts if len(part) > 150 and part[-1] == "." and _letters(part) > 0.95]
    texts, size = list[str](), 0
    for text in found:
        if not files:
            texts.append("\n\n".join(generator.sample(paragraphs, generator.randint(3, 12))))
        texts.append(text)
        size += sum(map(len, texts[-1 if files else -2 :]))
        if size >= characters:
            break
    return texts


def _letters(text: str) -> float:
    return sum(character.isalpha() or character == " " for character in text) / len(text)


def tilth_filters() -> dict[str, Run]:
    """The stages, on batches as `clean:` gives them."""

    def run(name: str, texts: list[str]) -> list[str]:
        kind = FILTER_STAGES[name]
        options, left, batch, size = kind.options(), list[str](), list[Document](), 0
        for text in texts:
            batch.append(Document("", text, "", ""))
            size += len(text)
            if size >= BATCH:
                left += [result.text for result in kind.run(batch, options) if result.text]
                batch, size = [], 0
        return left + [result.text for result in kind.run(batch, options) if result.text]

    def chain(texts: list[str]) -> list[str]:
        for name in FILTER_STAGES:
            texts = run(name, texts)
        return texts

    return {**{name: partial(run, name) for name in FILTER_STAGES}, "chain": chain}


def datatrove_filters() -> dict[str, Run]:
    """Its filters with their defaults, each document through `filter`, as its pipeline calls them."""
    from datatrove.data import Document as Page
    from datatrove.pipeline import filters

    classes: dict[str, Any] = {
        "gopher_quality": filters.GopherQualityFilter,
        "gopher_repetition": filters.GopherRepetitionFilter,
        "c4": filters.C4QualityFilter,
        "fineweb": filters.FineWebQualityFilter,
    }

    def run(steps: list[Any], texts: list[str]) -> list[str]:
        pages = [Page(text=text, id="") for text in texts]
        return [page.text for page in pages if all(step.filter(page) is True for step in steps)]

    steps = {name: make() for name, make in classes.items()}
    return {**{name: partial(run, [step]) for name, step in steps.items()}, "chain": partial(run, list(steps.values()))}


def seconds(run: Run, texts: list[str]) -> tuple[float, int]:
    """Processor time, so that what else the machine does counts less, and how many texts are left."""
    start = time.process_time()
    left = run(texts)
    return time.process_time() - start, len(left)


def suite(turns: Turns, options: dict[str, Any]) -> None:
    """One side for the suite: documents a second of every filter and of the chain, and how many % it keeps."""
    filters = {"tilth": tilth_filters, "datatrove": datatrove_filters}[options["side"]]()
    texts = corpus(int(options["megabytes"] * 1e6), None)
    filters["chain"](texts[:20])
    turns.ready()
    while turns.wait():
        figures = {name: seconds(filters[name], texts) for name in filters}
        kept = 100 * figures["chain"][1] / len(texts)
        turns.give(**{name: len(texts) / taken for name, (taken, _) in figures.items()}, kept=kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=4, help="characters of the corpus, in millions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=Path, help="a folder of .txt files, a document each")
    options = parser.parse_args()
    texts = corpus(int(options.megabytes * 1e6), options.files)
    size = sum(map(len, texts))
    sides = {"tilth": tilth_filters(), "datatrove": datatrove_filters()}
    for filters in sides.values():
        filters["chain"](texts[:20])
    times: dict[tuple[str, str], list[float]] = {}
    left: dict[tuple[str, str], int] = {}
    for _ in range(options.repeats):
        for name in sides["tilth"]:
            for side, filters in sides.items():
                taken, left[side, name] = seconds(filters[name], texts)
                times.setdefault((side, name), []).append(taken)
    print(f"{len(texts):,} documents, {size / 1e6:.1f} million characters, median of {options.repeats} runs")
    head = "".join(f"{side + ' docs/s':>18} {'MB/s':>6} {'kept':>6}" for side in sides)
    print(f"{'':18}{head}  ratio")
    for name in sides["tilth"]:
        taken = {side: statistics.median(times[side, name]) for side in sides}
        figures = (f"{len(texts) / t:18,.0f} {size / t / 1e6:6.2f} {left[side, name]:6,}" for side, t in taken.items())
        print(f"{name:18}{''.join(figures)} {taken['datatrove'] / taken['tilth']:6.1f}")


if __name__ == "__main__":
    main()
