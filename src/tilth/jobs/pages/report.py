"""The job that turns a run folder into a page for people: `RUN/report.html`.

    write_report(run, extra) -> Path

    read     what the run and its dataset left behind, into `Records`; no tensor is needed, so torch is not imported
    view     one short function per part of the page, from records to numbers; the prose stands in the template
    render   report.html.jinja, with all that comes from data escaped

The page is one file with nothing from elsewhere in it, and stays under a megabyte: what is cut short says so there.
"""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tilth.core.config import parse
from tilth.core.errors import TilthError
from tilth.core.files import read_json, write_file
from tilth.core.rundir import RunFolder, StepRecord
from tilth.jobs.pages.charts import evenly, training_charts
from tilth.jobs.pages.page import Page
from tilth.jobs.runs import dataset_of
from tilth.model.config import ModelConfig, parameter_count

# With every character escaped (six bytes at most) all of these together stay under a megabyte.
MOST_SAMPLES = 12
MOST_ROWS = 60
SAMPLE_CHARACTERS = 1500
LINE_CHARACTERS = 300
RECIPE_CHARACTERS = 20_000

ItemT = TypeVar("ItemT")
_UNITS = {"char": "character", "byte": "byte"}


@dataclass(frozen=True)
class Records:
    """What a run left behind.

    Attributes:
        ended: the result, or None while the run can still go on.
        data: the facts of its dataset; None when that is gone, for the reason `data_problem`.
    """

    run: Path
    recipe: dict[str, Any]
    steps: list[StepRecord]
    events: dict[str, list[dict[str, Any]]]
    ended: dict[str, Any] | None
    config: ModelConfig | None
    data: dict[str, Any] | None
    data_problem: str

    @property
    def final(self) -> dict[str, Any] | None:
        """The evaluation of the weights that the run leaves: the last, or the best where the recipe keeps that (and
        the run could).
        """
        every = self.events["evaluation"]
        kind = ((self.ended or {}).get("weights") or {}).get("kind") or self.setting("train", "final")
        best = [event for event in every if event["best"]] if kind == "best" else []
        return next(reversed(best or every), None)

    @property
    def last_step(self) -> int:
        """How many steps were made."""
        return self.steps[-1].step if self.steps else 0

    @property
    def seconds(self) -> float:
        """Time in training."""
        return float(self.ended["seconds"]) if self.ended else math.fsum(step.seconds for step in self.steps)

    def setting(self, *keys: str) -> Any:
        """A value of the recipe by its path; None when it is not there."""
        value: Any = self.recipe
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def write_report(run: Path, extra: dict[str, Any] | None = None) -> Path:
    """Writes RUN/report.html from the records of a run, finished or not, and returns its path.

    Args:
        extra: what the records do not hold, each key optional: `xz_bits_per_byte` (of the validation text),
            `next_steps` (commands), `environment` (as of `fingerprint_environment`; otherwise the newest checkpoint's),
            `parameters`.
    """
    page = Page("report.html.jinja").render(_view(_read(run), extra or {}))
    write_file(run / "report.html", page)
    return run / "report.html"


def _read(run: Path) -> Records:
    folder = RunFolder(run)
    recipe, steps = folder.recipe(), folder.steps()
    result = read_json(run / "result.json") if (run / "result.json").exists() else None
    stale = result is not None and bool(steps) and result["step"] != steps[-1].step  # the run went on after it
    data, problem = _read_data(run)
    return Records(
        run=run,
        recipe=recipe,
        steps=steps,
        events={kind: folder.events(kind) for kind in ("evaluation", "sample", "checkpoint", "message")},
        ended=None if stale else result,
        config=_read_config(run),
        data=data,
        data_problem=problem,
    )


def _read_data(run: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        dataset = dataset_of(run)
    except TilthError as error:
        return None, error.message
    return dataset.facts, ""


def _read_config(run: Path) -> ModelConfig | None:
    try:
        data = read_json(run / "config.json")
        return parse(ModelConfig, {key: value for key, value in data.items() if key != "model_type"}, "config.json")
    except TilthError:  # none, or a model of another kind: the page goes without its size
        return None


def _view(records: Records, extra: Mapping[str, Any]) -> dict[str, Any]:
    events, final = records.events, records.final
    return {
        "name": records.setting("name") or records.run.name,
        "run": records,
        "sources": _sources(records),
        "unit": _UNITS.get(records.setting("tokenizer", "kind"), "token"),
        "parameters": extra.get("parameters") or _parameters(records.config),
        "metrics": final["metrics"] if final else None,
        "shown": records.setting("evaluate", "metrics") or ["loss", "perplexity", "bits_per_byte", "accuracy"],
        "compression": _compression(final, extra.get("xz_bits_per_byte")),
        "best": min(events["evaluation"], key=_loss, default=None),
        "charts": training_charts(records.steps, [(e["step"], _loss(e)) for e in events["evaluation"]]),
        "evaluations": few(events["evaluation"], MOST_ROWS),
        "samples": _samples(events["sample"]),
        "data": _data(records.data),
        "work": _work(records.steps),
        "recipe": yaml.safe_dump(records.recipe, sort_keys=False, allow_unicode=True),
        "environment": _environment(records.run, extra),
        "precision": _precision(events["message"]),
        "checkpoints": few(events["checkpoint"], MOST_ROWS),
        "warnings": [event for event in events["message"] if event["level"] != "info"],
        "messages": _messages(events["message"]),
        "commands": _commands(records, extra.get("next_steps") or []),
        "limits": {
            "sample": SAMPLE_CHARACTERS,
            "line": LINE_CHARACTERS,
            "recipe": RECIPE_CHARACTERS,
            "rows": MOST_ROWS,
        },
    }


def _loss(evaluation: Mapping[str, Any]) -> float:
    return float(evaluation["metrics"]["loss"])


def few(items: Sequence[ItemT], most: int) -> list[ItemT]:
    """At most `most` of the items, from the first to the last."""
    return [items[n] for n in evenly(len(items), most)]


def _samples(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole steps from the first to the last, so that each prompt is seen at each of them."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for sample in samples:
        by_step.setdefault(sample["step"], []).append(sample)
    prompts = max(map(len, by_step.values()), default=1)
    chosen = few(list(by_step.values()), max(2, MOST_SAMPLES // prompts))
    return [sample for group in chosen for sample in few(group, MOST_SAMPLES // len(chosen))]


def _sources(records: Records) -> str:
    """What the text was, in a few words."""
    names = []
    for source in records.setting("data", "sources") or []:
        place = source.get("path") or source.get("url")
        names.append(source.get("name") or source.get("builtin") or (Path(place).name if place else "text"))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more sources" if len(names) > 3 else "") or "text"


def _parameters(config: ModelConfig | None) -> int | None:
    return parameter_count(config) if config and config.vocab_size else None


def _compression(final: Mapping[str, Any] | None, xz: float | None) -> dict[str, Any] | None:
    """The model beside a compressor, when both have a figure."""
    model = final["metrics"].get("bits_per_byte", math.nan) if final else math.nan
    if not xz or not math.isfinite(model):
        return None
    widest = max(model, xz)
    bars = [("This model", model, 100 * model / widest), ("xz -9e", xz, 100 * xz / widest)]
    return {"bars": bars, "model": model, "xz": xz, "change": model / xz - 1}


def _data(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Documents by rule and by split."""
    if facts is None:
        return None
    changed, dropped = facts["rules"]["changed"], facts["rules"]["dropped"]
    rules = [(*key.split("/", 1), changed.get(key, 0), dropped.get(key, 0)) for key in sorted({*changed, *dropped})]
    kept = facts["documents"]
    splits, total = facts["splits"], Counter[str]()
    for split in splits.values():
        total.update(split)
    return {**facts, "rules": rules, "kept": kept, "splits": splits, "total": total, "cut": total["documents"] - kept}


def _work(steps: Sequence[StepRecord]) -> dict[str, Any] | None:
    """What the steps cost."""
    if not steps:
        return None
    known = [step.mfu for step in steps if step.mfu is not None]
    return {
        "speed": statistics.median(step.tokens_per_second for step in steps),
        "waited": sum(step.data_wait_seconds for step in steps) / (sum(step.seconds for step in steps) or 1.0),
        "memory": max(step.memory_bytes for step in steps),
        "mfu": statistics.median(known) if known else None,
        "skipped": steps[-1].skipped,
        "tokens": steps[-1].tokens,
    }


def _environment(run: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The machine and its software: as given, or as the newest checkpoint whose state can be read has it."""
    if extra.get("environment"):
        return {"packages": {}, **extra["environment"]}
    for state in sorted((run / "checkpoints").glob("step-*/state.json"), reverse=True):
        try:
            return {"packages": {}, **read_json(state)["identity"]["environment"]}
        except (TilthError, KeyError, TypeError):
            continue
    return {"packages": {}}


def _messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_ROWS of them, warnings before information, in the order in which they were said."""
    warnings = few([m for m in messages if m["level"] != "info"], MOST_ROWS)
    rest = few([m for m in messages if m["level"] == "info"], MOST_ROWS - len(warnings))
    return sorted([*warnings, *rest], key=lambda message: int(message["step"]))


def _precision(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """How the run computed, as it said when it last started: `bf16 on cpu, 12 rows at once`."""
    said = [match[0] for m in messages if (match := re.search(r"\b(?:fp32|bf16|fp16) on [^;]*", m["text"]))]
    return said[-1] if said else None


def _commands(records: Records, asked: Sequence[str]) -> list[str]:
    """How to go on: the commands that were asked for, and the two that always help."""
    folder = shlex.quote(str(records.run))
    prompts = [sample["prompt"].strip() for sample in records.events["sample"][-1:]]
    prompt = next((p for p in prompts if p.isprintable() and 0 < len(p) < 80), "The")
    usual = [f"tilth generate {folder} --prompt {shlex.quote(prompt)}", f"tilth evaluate {folder}"]
    known = {tuple(command.split()[:2]) for command in asked}
    return [*asked, *(command for command in usual if tuple(command.split()[:2]) not in known)]
