"""The job behind `tilth report`: what a dataset is made of, as figures and as a page for people.

    report_data(dataset) -> dict             figures, as `--json` prints them
    write_page(dataset, figures, path)       one HTML file with nothing from elsewhere in it, under two megabytes

Figures come from the dataset's manifest, its ledger, the sizes in its shards and the columns of its documents; their
text is not read. The page's prose stands in data_report.html.jinja.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.core.files import write_file
from tilth.data.dataset import Dataset
from tilth.data.ledger import Ledger, open_ledger
from tilth.data.shards import Shard
from tilth.jobs.pages.compared import compared_examples, unread_examples
from tilth.jobs.pages.data_page import UNKNOWN, render

Figures = dict[str, Any]
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
CLUSTERS_SHOWN = 12
MEMBERS_SHOWN = 6
EXAMPLES_OF_A_RULE = 3
# As json.dumps writes them, which keeps the order of keys. What a tool is called with may be named "code" or "language"
# too: of the document, only strings, numbers and flags stand before the one, and a score behind the other.
_STATED = {
    "language": r'"language": "(?P<name>[^"\\]*)", "language_score"',
    "code": r'^\{(?:"[^"\\]*": (?:"(?:[^"\\]|\\.)*"|\w+), )*"code": "(?P<name>[^"\\]*)"',
}


def report_data(dataset: Dataset) -> Figures:
    """What is known of a dataset as a whole.

    Returns:
        folder, fingerprint, recipe; flow [{stage, name, documents, text_bytes}]; rules [{stage, rule, changed, dropped,
        dropped_bytes, cut_bytes}]; sources, languages, code {name: {documents, tokens}} (code: source files alone, by
        programming language); splits; lengths of documents in tokens (quantiles, histogram); clusters of
        near-duplicates (number, documents, largest); leaks, by what was looked for (items, planted, caught,
        false_alarms …).
    """
    facts = dataset.facts
    measured = _measure(dataset)
    with open_ledger(dataset) as ledger:
        clusters = _clusters(ledger)
    sources = {
        name: {"read": read, **measured["source"].get(name, {"documents": 0, "tokens": 0})}
        for name, read in facts["sources"].items()
    }
    return {
        "folder": str(dataset.folder),
        "fingerprint": facts["fingerprint"],
        "documents": facts["documents"],
        "vocab_size": facts["vocab_size"],
        "flow": facts["flow"],
        "rules": _rules(facts),
        "sources": sources,
        "languages": measured["language"],
        "code": measured["code"],
        "splits": facts["splits"],
        "split": facts.get("split", {}),  # datasets of before do not say it
        "lengths": measured["lengths"],
        "clusters": clusters,
        "leaks": facts["decontamination"],
        "recipe": facts["recipe"],
    }


def write_page(dataset: Dataset, figures: Figures, path: Path) -> Path:
    """Writes the page of a dataset and returns its path."""
    with open_ledger(dataset) as ledger:
        examples = _examples(dataset, ledger)
    write_file(path, render(figures, examples))
    return path


def _rules(facts: Mapping[str, Any]) -> list[Figures]:
    """What each rule did, in the order in which documents meet them."""
    changed, dropped = (facts["rules"][verdict] for verdict in ("changed", "dropped"))
    stages = ["list", "fetch", *dict.fromkeys(step["stage"] for step in facts["flow"])]
    names = [step["name"] for step in facts["flow"]]

    def place(key: str) -> tuple[int, int, str]:
        stage, _, rule = key.partition("/")
        return _place(stages, stage), _place(names, rule.partition("/")[0]), key

    rules = []
    for key in sorted({*changed, *dropped}, key=place):
        stage, _, rule = key.partition("/")
        numbers = {"changed": changed.get(key, 0), "dropped": dropped.get(key, 0)}
        sizes = {name: facts.get(name, {}).get(key) for name in ("dropped_bytes", "cut_bytes")}  # of before: no cuts
        rules.append({"stage": stage, "rule": rule, **numbers, **sizes})
    return rules


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _measure(dataset: Dataset) -> Figures:
    """Documents and tokens by source, language and programming language; the lengths of all documents in tokens."""
    counted: dict[str, dict[str, Counter[str]]] = {"source": {}, "language": {}, "code": {}}
    lengths = [np.empty(0, np.int64)]
    for tokens, columns in _parts(dataset):
        lengths.append(tokens)
        for kind, column in columns.items():
            _count(counted[kind], column, tokens)
    counted["code"].pop(UNKNOWN, None)  # what is no source file
    by_size = {
        kind: {name: dict(own) for name, own in sorted(groups.items(), key=lambda item: (-item[1]["tokens"], item[0]))}
        for kind, groups in counted.items()
    }
    return {**by_size, "lengths": _lengths(np.concatenate(lengths))}


def _parts(dataset: Dataset) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, pa.Array]]]:
    """Of the documents of each part of each split: how many tokens they have, their sources, their languages."""
    for split in dataset.facts["splits"]:
        for path in dataset.files(f"documents/{split}"):
            shard = Shard(dataset.folder / split / path.stem.replace("part", "shard"))
            tokens = np.diff(shard.offsets)
            table = pq.read_table(path, columns=["source", "meta"]).combine_chunks()
            stated = {kind: _stated(table["meta"], pattern) for kind, pattern in _STATED.items()}
            yield tokens, {"source": table["source"], **stated}


def _stated(meta: pa.ChunkedArray, pattern: str) -> pa.Array:
    return pc.fill_null(pc.struct_field(pc.extract_regex(meta, pattern), "name"), UNKNOWN)


def _count(groups: dict[str, Counter[str]], column: pa.ChunkedArray, tokens: npt.NDArray[np.int64]) -> None:
    encoded = column.combine_chunks().dictionary_encode() if isinstance(column, pa.ChunkedArray) else column
    codes, names = np.asarray(encoded.indices), encoded.dictionary.to_pylist()
    documents, sums = np.bincount(codes, minlength=len(names)), np.bincount(codes, tokens, len(names))
    for name, own, total in zip(names, documents.tolist(), sums.tolist(), strict=True):
        groups.setdefault(name, Counter()).update({"documents": own, "tokens": int(total)})


def _lengths(tokens: npt.NDArray[np.int64]) -> Figures:
    """Quantiles, and how many documents there are of 1, 2-3, 4-7, … tokens."""
    if not len(tokens):
        return {"quantiles": {}, "histogram": []}
    values = np.quantile(tokens, QUANTILES, method="inverted_cdf").tolist()
    powers = np.frexp(tokens)[1] - 1  # floor(log2), without rounding
    counts, sums = np.bincount(powers), np.bincount(powers, tokens)
    first = int(powers.min())
    histogram = [
        {"from": 1 << power, "documents": int(counts[power]), "tokens": int(sums[power])}
        for power in range(first, len(counts))
    ]
    return {"quantiles": dict(zip(map(str, QUANTILES), values, strict=True)), "histogram": histogram}


def _clusters(ledger: Ledger) -> Figures:
    """Near-duplicates that went, by the document that stays for them."""
    sizes = ledger.rows(
        "SELECT members, count(*) AS clusters FROM (SELECT count(*) AS members FROM clusters GROUP BY kept) "
        "GROUP BY members ORDER BY members"
    )
    largest = ledger.rows(
        "SELECT kept, any_value(kept_source) AS source, any_value(kept_locator) AS locator, count(*) AS members, "
        "min(similarity) AS least FROM clusters GROUP BY kept ORDER BY members DESC, kept LIMIT ?",
        [CLUSTERS_SHOWN],
    )
    for cluster in largest:
        cluster["examples"] = ledger.rows(
            "SELECT member AS doc_id, member_source AS source, member_locator AS locator, similarity FROM clusters "
            "WHERE kept = ? ORDER BY similarity DESC, member LIMIT ?",
            [cluster["kept"], MEMBERS_SHOWN],
        )
    return {
        "clusters": sum(row["clusters"] for row in sizes),
        "documents": sum(row["members"] * row["clusters"] for row in sizes),
        "sizes": sizes,
        "largest": largest,
    }


def _examples(dataset: Dataset, ledger: Ledger) -> dict[tuple[str, str, str], list[Figures]]:
    """Of each (stage, rule, verdict) the examples with the smallest ids."""
    rows = ledger.rows(
        "SELECT stage, rule, verdict, value, doc_id, source, locator, before, after, characters, '' AS note "
        "FROM examples QUALIFY row_number() OVER (PARTITION BY stage, rule, verdict ORDER BY doc_id, value) <= ? "
        "ORDER BY stage, rule, verdict, doc_id, value",
        [EXAMPLES_OF_A_RULE],
    )
    rows += compared_examples(dataset, ledger, EXAMPLES_OF_A_RULE) + unread_examples(ledger, EXAMPLES_OF_A_RULE)
    examples: dict[tuple[str, str, str], list[Figures]] = {}
    for row in rows:
        examples.setdefault((row["stage"], row["rule"], row["verdict"]), []).append(row)
    return examples
