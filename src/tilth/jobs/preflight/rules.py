"""Facts to errors and warnings: what will ruin the run, and what may. Pure; no rule reads anything.

    judge(facts) -> (errors, warnings)
    fault.py                        what a rule yields: with the line of the recipe to change
    text_rules.py, run_rules.py     the warnings
    rates.py                        both, of the learning rate

A rule is a function of the facts that yields a `Fault`, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault, Rule
from tilth.jobs.preflight.rates import impossible_rate
from tilth.jobs.preflight.run_rules import RUN_RULES
from tilth.jobs.preflight.text_rules import TEXT_RULES


def judge(facts: Facts) -> tuple[list[Fault], list[Fault]]:
    """The errors and the warnings."""
    errors = [fault for rule in ERRORS for fault in rule(facts)]
    return errors, [fault for rule in WARNINGS for fault in rule(facts)]


def _refused(facts: Facts) -> Iterator[Fault]:
    for refusal in facts.refusals:
        yield Fault(refusal.rule, refusal.error.message, refusal.error.remedy, refusal.error)


def _ids(facts: Facts) -> Iterator[Fault]:
    ids = facts.vocabulary
    if ids.model is not None and ids.largest >= ids.model:
        yield Fault(
            "ids",
            f"the text has the id {ids.largest:,}, and the model rows for 0 to {ids.model - 1:,}",
            "prepare the data again, with the tokenizer of this model (model.from)",
        )
    if ids.rowless:
        yield Fault(
            "ids",
            f"the text has {ids.rowless:,} ids of the checkpoint's tokenizer that its model, of {ids.checkpoint:,} "
            "rows, has no row for",
            "model.from: name a checkpoint whose tokenizer and weights are of one revision",
        )


def _needs_validation(facts: Facts) -> Iterator[Fault]:
    train = facts.recipe.train
    asking = [
        *(["train.early_stopping"] if train.early_stopping else []),
        *(["train.final: best"] if train.final == "best" else []),
    ]
    if asking and not facts.validation.tokens:
        yield Fault(
            "no_validation",
            f"{' and '.join(asking)} {'need' if len(asking) > 1 else 'needs'} held-out text, and the validation split "
            "is empty",
            "data.split.validation: hold out a larger share, or remove what needs it",
        )


def _metric(facts: Facts) -> Iterator[Fault]:
    rule, objective = facts.recipe.train.early_stopping, facts.recipe.train.objective
    if rule and rule.metric == "bits_per_byte" and not facts.recipe.train.traits.every_token:
        yield Fault(
            "metric",
            f"train.early_stopping.metric is bits_per_byte, which {objective} does not have: only some tokens of a "
            "text are predicted",
            "train.early_stopping.metric: loss",
        )


def _compile(facts: Facts) -> Iterator[Fault]:
    if facts.model is not None and facts.model.plain is not None:
        yield Fault("compile", f"train.compile is true, and {facts.model.plain}", "train.compile: false")


ERRORS: tuple[Rule, ...] = (_refused, _ids, _needs_validation, _metric, impossible_rate, _compile)
WARNINGS: tuple[Rule, ...] = (*TEXT_RULES, *RUN_RULES)
