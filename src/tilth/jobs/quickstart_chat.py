"""The job behind `tilth quickstart --chat`: the quickstart's model tuned on questions, and what that was worth.

    chat_run(run)                       where the tuned model lies, beside the pretrained one
    chat_recipe(run, minutes, steps)    recipes/quickstart-chat.yaml, beside that run
    check_pretrained(recipe, run)       refuses to go on beside a model that has changed
    answer_figures(run, …)              held-out questions before and after, kept in RUN/answers.json

Two kinds of questions are held out. Of `validation` the modules were held out of pretraining too: nothing of them was
ever read. Of `test` pretraining has read the modules, docstrings and all, but no question about them was trained. Both
follow from drawing modules as pretraining did, and are compared with what it read all the same; answers that stand in
training, or nearly, are left out. All this is counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError, RecipeError
from tilth.core.files import hash_file, read_json, write_json
from tilth.data.dataset import Dataset
from tilth.evaluation.answers import Pair, without_copies
from tilth.jobs.answers import Answered, groups_of, measure, questions_of
from tilth.jobs.load import load
from tilth.jobs.places import BASE_FILE
from tilth.jobs.quickstart import quickstart_recipe
from tilth.jobs.recipe import Recipe

RECIPE = "quickstart-chat"
ASKED = 48
"""Questions of each kind that the model is asked: enough to tell before from after, in a few seconds."""
SHOWN = 3
"""Of each kind, for people to look at."""
SETS = {"unread": "validation", "read": "test"}
_VERSION = 1


def chat_run(run: Path) -> Path:
    """The folder of the tuned model."""
    return run.with_name(f"{run.name}-chat")


def chat_recipe(run: Path, minutes: float | None, steps: int | None) -> Recipe:
    """The recipe that tunes the model of `run`, as long as is asked for."""
    name = json.dumps(str(run), ensure_ascii=False)  # quoted: it may look like something else in YAML
    return quickstart_recipe(chat_run(run), minutes, steps, RECIPE, [f"model.from={name}"])


def check_pretrained(recipe: Recipe, run: Path) -> None:
    """RecipeError when `run` was begun beside a model that has been trained further since."""
    from tilth.checkpoint.trainable import base_fingerprint
    from tilth.distributed.runtime import pick_device
    from tilth.jobs.base import find_base
    from tilth.jobs.start import base_model

    base = find_base(recipe)
    if base is None or not (run / BASE_FILE).exists():
        return
    now = base_fingerprint(base_model(base, pick_device(recipe.train.device), recipe.train.seed, later=True))
    if read_json(run / BASE_FILE)["fingerprint"] != now:
        raise RecipeError(
            f"{run} was tuned beside {base.name} as it was before: that model has been trained further since",
            f"move {run} away, and type the same command: the model is tuned anew",
        )


def answer_figures(run: Path, questions: Dataset, pretrained: Dataset) -> dict[str, Any]:
    """Figures of the held-out questions: {questions, before, after, shown}; measured once for a model.

    DataError when no question is left to ask.
    """
    path = run / "answers.json"
    of = {"version": _VERSION, "dataset": questions.fingerprint, "model": hash_file(run / "final" / "manifest.json")}
    if path.exists() and (kept := read_json(path))["of"] == of:
        return dict(kept)
    sets, counts = _held_out(questions, groups_of(pretrained, "train"))
    answered = {
        when: {name: measure(model, pairs, ASKED) for name, pairs in sets.items()}
        for when, model in (("before", load(run, adapter="none")), ("after", load(run)))
    }
    figures = {when: {name: one.figures for name, one in of_sets.items()} for when, of_sets in answered.items()}
    shown = [row for name in sets for row in _shown(answered["before"][name], answered["after"][name])]
    found = {"of": of, "questions": counts, **figures, "shown": shown}
    write_json(path, found)
    return found


def _held_out(questions: Dataset, read: set[str]) -> tuple[dict[str, list[Pair]], dict[str, dict[str, int]]]:
    """The questions of each set that may be measured, and how many were left out for what."""
    trained = questions_of(questions, "train")
    sets, counts = {}, {}
    for name, split in SETS.items():
        held_out = questions_of(questions, split)
        rightly = [pair for pair in held_out if (pair.group in read) == (name == "read")]
        sets[name] = without_copies(rightly, trained)
        counts[name] = {
            "held_out": len(held_out),
            "of_the_other_kind": len(held_out) - len(rightly),
            "answers_in_training": len(rightly) - len(sets[name]),
            "measured": len(sets[name]),
        }
        if not sets[name]:
            raise DataError(f"no held-out question is left to ask ({name}: {counts[name]})", "use a whole Python")
    return sets, counts


def _shown(before: Answered, after: Answered) -> list[dict[str, str]]:
    """The first question of each form that was asked, whatever came of it."""
    first: dict[str, dict[str, str]] = {}
    for pair, early, late in zip(before.asked, before.written, after.written, strict=True):
        row = {"question": pair.question, "answer": pair.answer, "before": early, "after": late}
        first.setdefault(pair.kind, row)
    return [*first.values()][:SHOWN]
