"""The job behind `tilth trace`: what became of a document, and which documents a step saw.

    trace_document(dataset, name, run) -> dict      verdicts, texts before and after, duplicates, splits, tokens, steps
    trace_documents(dataset, name, run) -> [dict]   the same of each document that is called so
    trace_step(dataset, run, step) -> dict          the documents of a step

Both answer with plain data, as `--json` prints it. A token is seen by the sample that predicts it: in each epoch by one
at most. Epochs are counted from 1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.rundir import RunFolder, StepRecord
from tilth.data.batches.order import Sampler
from tilth.data.dataset import Dataset
from tilth.data.document import in_utf8, make_doc_id
from tilth.data.ledger import Ledger, cut_from, open_ledger
from tilth.data.lineage import Change, follow
from tilth.data.plans.flow import BY_PART
from tilth.data.shards import TokenStream
from tilth.data.tasks.examples import around_the_change
from tilth.jobs.objectives import training_sampler
from tilth.jobs.runs import stored_recipe

CUT_UP, NOT_KEPT = "cut into pieces", "not kept"
_CUT = "cut"  # the stage; those of its cuts that fall within sentences are counted as rules below it
_SPELLED = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5})")
Facts = dict[str, Any]


def trace_document(dataset: Dataset, name: str, run: Path | None = None) -> Facts:
    """Everything that is known of a document.

    Args:
        name: its id, or its locator (a path or URL, as the source has it).
        run: a run that was trained on the dataset: which of its steps saw the document is told too.

    Raises:
        DataError: none is called so.
        RecipeError: several are.
    """
    with open_ledger(dataset) as ledger:
        found = _called(ledger, name)
        if len(found) > 1:
            named = (f"{one['doc_id']} (source {one['source']}, {one['locator']})" for one in found)
            raise RecipeError(f"{len(found)} documents are called {name}", f"give one of these ids: {', '.join(named)}")
        return _traced(ledger, found[0], run)


def trace_documents(dataset: Dataset, name: str, run: Path | None = None) -> list[Facts]:
    """Everything that is known of each document of a name, by source and locator: those of several sources, and all
    that WARC files have of one address. DataError where there is none.
    """
    with open_ledger(dataset) as ledger:
        return [_traced(ledger, about, run) for about in _called(ledger, name)]


def _called(ledger: Ledger, given: str) -> list[Facts]:
    name = in_utf8(given)
    found = [_known_by(ledger, doc_id, (name, _as_read(name))) for doc_id in _ids(ledger, name)]
    if not found:
        near = ledger.nearest(name)
        remedy = f"did you mean {' or '.join(near)}?" if near else "this dataset knows no document at all"
        told = _not_entered(ledger, name)
        raise DataError(f"no document of {ledger.dataset.folder} is called {name}{f': {told}' if told else ''}", remedy)
    return sorted(found, key=lambda about: (about["source"] or "", about["locator"] or "", about["doc_id"]))


def _not_entered(ledger: Ledger, name: str) -> str:
    """Why nothing is known of what lies there: what was said of a folder or archive above it when files were listed."""
    for cut in re.finditer("[/!]", name):
        for row in ledger.verdicts(ledger.find(name[: cut.start()])):
            if row["stage"] == "list" and row["verdict"] == "dropped":
                return f"nothing there is read, for {row['detail']}"
    return ""


def _ids(ledger: Ledger, name: str) -> list[str]:
    return ledger.find(name) or ledger.find(_as_read(name))


def _known_by(ledger: Ledger, doc_id: str, names: Iterable[str]) -> Facts:
    """What is known of a document; where the ledger tells no locator, the name that it was found by is it."""
    about = ledger.identity(doc_id)
    if about["locator"] is None:
        for name, source in itertools.product(names, ledger.sources):
            if make_doc_id(source, name) == doc_id:
                return {**about, "source": source, "locator": name}
    return about


def _traced(ledger: Ledger, about: Facts, run: Path | None) -> Facts:
    dataset, doc_id = ledger.dataset, about["doc_id"]
    cuts = cut_from(about["source"], about["locator"])
    above = [*cuts]
    pieces = ledger.pieces(about["source"], about["locator"]) if about["locator"] else []
    rows = ledger.verdicts([*above, doc_id])
    shown, (edits, missed) = _verdicts(ledger, rows), _edits(dataset, about, [*above, doc_id], rows)
    _add_texts(ledger, shown, edits, [*above, doc_id])
    _add_cuts(shown, cuts)
    placed = ledger.placed([doc_id, *(piece["doc_id"] for piece in pieces)])
    splits = _spans(dataset, placed)
    return {
        "document": {key: about[key] for key in ("doc_id", "source", "locator", "characters", "text_bytes")}
        | {key: placed[0][key] if placed else None for key in ("license", "meta")},
        "part_of": _named(ledger, above),
        "pieces": _pieces(ledger, about, pieces),
        "fate": _fate(ledger, doc_id, cut=bool(pieces)),
        "verdicts": shown,
        "texts_from": "tasks" if edits is not None else "examples",
        "texts_missed": missed,
        "duplicates": _duplicates(ledger, doc_id, rows),
        "splits": splits,
        "run": None if run is None else _seen(dataset, run, splits),
    }


def _as_read(name: str) -> str:
    """A name that was copied from what tilth prints, where characters that a terminal would obey are spelled out."""

    def read(found: re.Match[str]) -> str:
        character = found[0].encode().decode("unicode_escape")
        return found[0] if character.isprintable() else character

    return _SPELLED.sub(read, name)


def _named(ledger: Ledger, doc_ids: Iterable[str]) -> list[Facts]:
    return [{key: about[key] for key in ("doc_id", "locator")} for about in map(ledger.identity, doc_ids)]


def _pieces(ledger: Ledger, about: Facts, pieces: Sequence[Facts]) -> list[Facts]:
    """What a document was cut into; where a split cut it, its beginning keeps its name."""
    doc_id = about["doc_id"]
    beginning = [{"doc_id": doc_id, "locator": about["locator"]}] if pieces and ledger.placed([doc_id]) else []
    further = {piece["locator"].rpartition("#characters=")[0] for piece in pieces}
    told = []
    for piece in (*beginning, *pieces):
        fate = _fate(ledger, piece["doc_id"])
        was_cut = fate == NOT_KEPT and piece["locator"] in further
        told.append(piece | {"fate": CUT_UP if was_cut else fate})
    return told


def _fate(ledger: Ledger, doc_id: str, cut: bool = False) -> str:
    """In a few words what became of a document."""
    splits = [row["split"] for row in ledger.placed([doc_id])]
    dropped = [row for row in ledger.verdicts([doc_id]) if row["verdict"] == "dropped"]
    if dropped and not splits:  # else it was another of its name: in a crawl an address is a name, in several files
        return f"dropped by {dropped[-1]['stage']}/{dropped[-1]['rule']}"
    if cut:
        return CUT_UP
    return f"kept in {splits[0]}" if splits else NOT_KEPT


def _verdicts(ledger: Ledger, rows: Sequence[Facts]) -> list[Facts]:
    keys = ("doc_id", "stage", "rule", "verdict", "value", "detail")
    return [{key: row[key] for key in keys} | {"step": _stage_of(ledger.dataset, row)} for row in rows]


def _stage_of(dataset: Dataset, row: Mapping[str, Any]) -> int | None:
    """The place among the stages that edit of the one that gave a verdict."""
    own = _editing(dataset, row["phase"])
    return own[row["task"] % len(own)] if own else None


def _editing(dataset: Dataset, phase: str) -> list[int]:
    """The places of a phase's stages among all that edit."""
    phases = [step["stage"] for step in dataset.facts["flow"] if step["stage"] in BY_PART]
    return [place for place, name in enumerate(phases) if name == phase]


def _edits(
    dataset: Dataset, about: Facts, trail: Sequence[str], rows: Sequence[Facts]
) -> tuple[list[Change] | None, str]:
    """What stages made of the text, where the workspace's tasks are still there to tell; else why they do not."""
    by_stages = (row["task"] // len(own) for row in rows if (own := _editing(dataset, row["phase"])))
    part = next(by_stages, None) if about["part"] is None else about["part"]
    if part is None:
        return [], ""
    origin = dataset.origins[part]
    try:
        return follow(dataset.folder.resolve().parent.parent / "tasks", origin, trail), ""
    except LookupError:
        return None, "the workspace's tasks are gone"
    except IntegrityError as error:  # of a task, not of the dataset: what that says is true all the same
        return None, error.message


def _add_texts(ledger: Ledger, verdicts: list[Facts], edits: Sequence[Change] | None, trail: Sequence[str]) -> None:
    """Puts the texts before and after beside the first verdict of each stage, clipped around the change."""
    by_stage = {change.stage: change for change in edits or ()}
    kept = {} if edits is not None else {(row["doc_id"], row["rule"]): row for row in ledger.examples(trail)}
    for verdict in verdicts:
        change, example = by_stage.pop(verdict["step"], None), kept.get((verdict["doc_id"], verdict["rule"]))
        if change is not None:
            before, after = around_the_change(change.before, change.after)
            verdict |= {"before": before, "after": after, "characters": len(change.before)}
        elif example is not None:
            verdict |= {key: example[key] for key in ("before", "after", "characters")}


def _add_cuts(verdicts: Iterable[Facts], cuts: Mapping[str, list[int]]) -> None:
    """Cutting a document up changes no word of it: in place of texts stands which characters of it the piece is."""
    for verdict in verdicts:
        if verdict["stage"] == "clean" and verdict["rule"].partition("/")[0] == _CUT:
            verdict |= {"before": None, "after": None, "piece": cuts.get(verdict["doc_id"])}


def _duplicates(ledger: Ledger, doc_id: str, rows: Sequence[Facts]) -> Facts:
    """For which document it went, and which went for it; a similarity of None: the same to the letter."""
    went = None
    for row in rows:
        if row["doc_id"] == doc_id and row["phase"] == "deduplicate" and row["verdict"] == "dropped":
            exact = not row["detail"]
            went = {"doc_id": row["value"] if exact else row["detail"], "rule": row["rule"]}
            went["similarity"] = None if exact else float(row["value"])
    gone = ledger.gone_for(doc_id)
    known = ledger.locators([*(row["doc_id"] for row in gone), *([went["doc_id"]] if went else [])])
    for row in [*gone, *([went] if went else [])]:
        row |= {key: known.get(row["doc_id"], {}).get(key) for key in ("source", "locator")}
    return {"went_for": went, "stays_for": gone}


def _spans(dataset: Dataset, placed: Sequence[Facts]) -> list[Facts]:
    """Where a document's tokens lie: in its shard, and in the stream that its split is."""
    spans = []
    for row in placed:
        stream, first = dataset.stream(row["split"]), 0
        for shard in stream.shards:
            if shard.folder.name == f"shard-{row['part']:05d}":
                inside = [int(shard.offsets[row["row"]]), int(shard.offsets[row["row"] + 1])]
                spans.append(
                    {
                        "doc_id": row["doc_id"],
                        "locator": row["locator"],
                        "split": row["split"],
                        "shard": f"{row['split']}/{shard.folder.name}",
                        "tokens": inside[1] - inside[0],
                        "in_shard": inside,
                        "in_stream": [first + inside[0], first + inside[1]],
                    }
                )
            first += shard.tokens
    return spans


def _seen(dataset: Dataset, run: Path, spans: Sequence[Facts]) -> Facts:
    """The steps that saw tokens of a document, with their windows, in order."""
    records, sampler = RunFolder(run).steps(), _sampler(dataset, run)
    done = records[-1].last_sample + 1 if records else 0
    last_of_steps = np.array([record.last_sample for record in records], np.int64)
    steps: dict[int, Facts] = {}
    spans = [span for span in spans if span["split"] == "train"]
    for window in _windows(sampler, spans, done):
        place = int(np.searchsorted(last_of_steps, window["sample"]))
        own = steps.setdefault(records[place].step, {"tokens": 0, "windows": []})
        own["tokens"] += window["tokens"]
        own["windows"].append(window)
    return {
        "run": str(run),
        "steps_done": len(records),
        "epochs_done": done / sampler.samples_per_epoch,
        "context_length": sampler.context_length,
        "tokens": sum(own["tokens"] for own in steps.values()),
        "steps": [{"step": step, **own} for step, own in sorted(steps.items())],
    }


def _windows(sampler: Sampler, spans: Sequence[Facts], done: int) -> Iterator[Facts]:
    """The windows among the first `done` samples that predict tokens of the spans. Of a mixture, epoch and start are
    those of the ring that the document is in, which may be none.
    """
    for ring, (own, count) in enumerate(zip(sampler.rings, sampler.counts(done), strict=True)):
        inside = [(first, first + span["tokens"]) for span in spans for first in _first(own.stream, span)]
        for epoch in range(-(-count // own.samples_per_epoch)):
            for first, stop in inside:
                places, tokens = own.samples_of(first, stop, epoch)
                places, tokens = places[places < count], tokens[places < count]
                columns = (sampler.numbers(ring, places), own.starts(places), tokens)
                for sample, start, n in zip(*(column.tolist() for column in columns), strict=True):
                    yield {"sample": sample, "epoch": epoch + 1, "start": start, "tokens": n}


def _first(stream: TokenStream, span: Facts) -> list[int]:
    """Where a span begins in a stream, if its shard is in it."""
    before = 0
    for shard in stream.shards:
        if shard.folder.name == span["shard"].rpartition("/")[2]:
            return [before + span["in_shard"][0]]
        before += shard.tokens
    return []


def _sampler(dataset: Dataset, run: Path) -> Sampler:
    """The order in which a run goes through its training text: all of it follows from the recipe."""
    return training_sampler(stored_recipe(RunFolder(run)), dataset)


def trace_step(dataset: Dataset, run: Path, step: int) -> Facts:
    """The documents whose tokens a step of a run predicted, the largest share first."""
    record = _record(run, step)
    sampler = _sampler(dataset, run)
    counts: dict[tuple[int, int], int] = {}
    ids: dict[tuple[int, int], str] = {}
    for place, share in enumerate(sampler.shares(np.arange(record.first_sample, record.last_sample + 1))):
        numbers, tokens = share.ring.documents(share.numbers)
        for number, count in zip(numbers.tolist(), tokens.tolist(), strict=True):
            counts[place, number] = count
            ids[place, number] = share.ring.stream.doc_id(number)
    total = sum(counts.values())
    with open_ledger(dataset) as ledger:
        known = ledger.locators(ids.values())
    documents = [
        {
            "doc_id": ids[number],
            "source": known[ids[number]]["source"],
            "locator": known[ids[number]]["locator"],
            "tokens": count,
            "share": count / total,
        }
        for number, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    samples = [record.first_sample, record.last_sample]
    first, last = (sample // sampler.samples_per_epoch + 1 for sample in samples)
    epochs = list(range(first, last + 1))
    about = {"run": str(run), "step": step, "samples": samples, "epochs": epochs, "loss": record.loss}
    return {**about, "tokens": total, "documents": documents}


def _record(run: Path, step: int) -> StepRecord:
    records = RunFolder(run).steps()
    for record in records:
        if record.step == step:
            return record
    made = f"its steps are {records[0].step} to {records[-1].step}" if records else "it has not made a step yet"
    raise RecipeError(f"{run} has no step {step}: {made}", "give one of those with --step")
