"""A preflight as plain data: what `tilth check --json` prints.

summary_of(facts, errors, …) -> dict    of a run that was looked at
refused(rule, error) -> dict            of one that did not come so far: numbers are null
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilth.core.errors import TilthError
from tilth.jobs.forecasting.fit import Fit
from tilth.jobs.forecasting.forecast_run import RunForecast
from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault
from tilth.jobs.preflight.memory import LEFT_OUT
from tilth.jobs.preflight.tokens import SplitFacts

QUANTILES = (0.5, 0.9, 0.99, 1.0)
_COUNTS = ("rows", "truncated", "masked", "without_end", "duplicates", "leaks", "forecast")


def summary_of(
    facts: Facts,
    errors: Sequence[Fault],
    warnings: Sequence[Fault],
    found: RunForecast | None,
    fits: Sequence[Fit],
) -> dict[str, Any]:
    """`rows`, `truncated` … are numbers of training documents (conversations), `leaks` of validation documents; None
    where there are no rows to tell.
    """
    return {
        "ok": not errors,
        "errors": [fault.plain() for fault in errors],
        "warnings": [fault.plain() for fault in warnings],
        "rows": facts.train.documents,
        "truncated": facts.truncated,
        "masked": facts.masked,
        "without_end": facts.without_end,
        "duplicates": facts.train.duplicates,
        "leaks": facts.leaks.items,
        "forecast": {**forecast(facts), "run": found.plain() if found else None},
        "fits": [fit.plain() for fit in fits],
        "too_long": facts.too_long,
        "split": facts.split,
        "dropped": facts.dropped,
        "empty": facts.empty,
        "unusable": dict(facts.unusable),
        "lost": dict(facts.lost),
        "passed_over": dict(facts.passed_over),
        "evaluation_files": list(facts.evaluation_files),
        "shared": facts.leaks.shared,
        "leaks_looked_for": facts.leaks.looked,
        "leaks_taken_out": facts.leaks.taken_out,
        "lengths": lengths(facts.train),
        "vocabulary": vocabulary(facts),
        "splits": {name: _split(getattr(facts, name)) for name in ("train", "validation")},
    }


def refused(rule: str, error: TilthError) -> dict[str, Any]:
    """The same keys, for a recipe or data that came to nothing."""
    fault = {"rule": rule, "message": error.message, "remedy": error.remedy}
    return {"ok": False, "errors": [fault], "warnings": [], **dict.fromkeys(_COUNTS)}


def lengths(split: SplitFacts) -> dict[str, int]:
    """Tokens of a document: quantiles, each a length that occurs. Empty where there is no document."""
    if not len(split.lengths):
        return {}
    found = np.quantile(split.lengths, QUANTILES, method="inverted_cdf").tolist()
    return {f"{share:.0%}": int(length) for share, length in zip(QUANTILES, found, strict=True)}


def forecast(facts: Facts) -> dict[str, Any]:
    """The shape of the run, and the memory that it holds from its first step to its last: exact, without its peak."""
    rows, run, model, train = facts.rows, facts.run, facts.model, facts.recipe.train
    return {
        "steps": run.steps if run else None,
        "tokens": run.tokens if run else None,
        "epochs": run.epochs if run else None,
        "hours": train.hours,
        "rows_per_step": run.rows_per_step if run else None,
        "rows_per_epoch": rows.rows if rows else None,
        "warmup_steps": run.warmup_steps if run else None,
        "warmup_share": run.warmup_share if run else None,
        "filled": rows.filled if rows else None,
        "trained": rows.trained if rows else None,
        "parameters": model.parameters if model else None,
        "trained_parameters": model.trained if model else None,
        "memory": {"weights": model.weights, "gradients": model.gradients, "optimizer": model.optimizer}
        if model
        else None,
        "left_out": [*LEFT_OUT, *([model.guessed] if model and model.guessed else [])],
    }


def vocabulary(facts: Facts) -> dict[str, Any]:
    """How tokenizer, model and text fit."""
    ids = facts.vocabulary
    return {
        "tokenizer": ids.tokenizer,
        "model": ids.model,
        "checkpoint": ids.checkpoint,
        "unused": ids.unused,
        "new_tokens": list(ids.new_tokens),
        "end": ids.end,
        "generation_ends": None if ids.generation_ends is None else list(ids.generation_ends),
    }


def _split(split: SplitFacts) -> dict[str, int]:
    return {
        "documents": split.documents,
        "tokens": split.tokens,
        "read": split.read,
        "trained": int(split.trained.sum()),
    }
