"""What lies in a run folder, as today's tilth reads it; no torch.

run_of(path)              the run folder that a path is, or stands in
stored_recipe(folder)     the recipe of a run under today's schema: what it did not know has today's default
dataset_facts(dataset, run)    what RUN/data.json holds
dataset_of(run)           the dataset that a run was trained on, wherever the two lie by now
not_the_end(path, which, used)    what to say where the weights that are used are not those of the run's end
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tilth.core.config import unknown_keys
from tilth.core.errors import CheckpointError, DataError, IntegrityError, RecipeError
from tilth.core.files import MANIFEST, read_json, read_manifest
from tilth.core.rundir import RunFolder
from tilth.data.batches.masking import MaskingConfig
from tilth.data.dataset import Dataset, open_dataset
from tilth.data.sources import SourceConfig
from tilth.data.sources.inputs import ROWS, kind_of
from tilth.jobs.recipe import Recipe, make_recipe
from tilth.training.config import DEFAULT_OBJECTIVE, OBJECTIVES, ObjectiveTraits

_DIGITS = "[0-9]" * 8
_ROW_KEYS = ("field", "template", "map", "separator", "records")


def run_of(path: Path) -> Path | None:
    """The run folder that `path` is, or stands in (RUN/final, RUN/checkpoints/step-…); None when it is in none."""
    return next((f for f in (path, path.parent, path.parent.parent) if (f / "recipe.json").exists()), None)


def stored_recipe(folder: RunFolder) -> Recipe:
    """The recipe of a run. RecipeError names what this tilth cannot read of it, and which tilth wrote it."""
    data, place = folder.recipe(), folder.path / "recipe.json"
    if unknown := unknown_keys(Recipe, data):
        raise RecipeError(
            f"{place} has keys that {_this_tilth()} does not know: {', '.join(unknown)}; {_maker(folder)} wrote it",
            "use the tilth that made the run; or, if these keys say nothing that matters to you, take them out of the "
            "file; a copy of its final/ folder can be used without the recipe",
        )
    try:
        return make_recipe(data, place=str(place))
    except RecipeError as error:
        raise RecipeError(
            f"{error.message} ({_maker(folder)} wrote it; this is {_this_tilth()})",
            f"use the tilth that made the run, or mend the file: {error.remedy}",
        ) from None


def _this_tilth() -> str:
    return f"tilth {importlib.metadata.version('tilth')}"


def _maker(folder: RunFolder) -> str:
    """Which tilth made a run, as its newest checkpoint tells."""
    for state in sorted(folder.checkpoints.glob(f"step-{_DIGITS}/state.json"), reverse=True):
        try:
            return f"tilth {read_json(state)['identity']['environment']['packages']['tilth']}"
        except (IntegrityError, LookupError, TypeError):
            continue  # a damaged checkpoint: another may tell
    return "an older or newer tilth"


def dataset_facts(dataset: Dataset, run: Path) -> dict[str, Any]:
    """What a run remembers of its dataset: where it lies, from the root and from the run folder, and what it is."""
    place = dataset.folder.absolute()
    beside = os.path.relpath(place.resolve(), run.resolve())
    return {"folder": str(place), "from_run": beside, "fingerprint": dataset.fingerprint}


def dataset_of(run: Path) -> Dataset:
    """The dataset that a run was trained on: beside the run, where both moved or were copied together, or where it
    lay.
    """
    facts = read_json(run / "data.json")
    if not isinstance(facts, dict) or not {"folder", "fingerprint"} <= facts.keys():
        raise IntegrityError(
            f"{run / 'data.json'} does not say which dataset {run} was trained on",
            "type the command that trained it: it is written again; or evaluate a file: --data FILE",
        )
    places = [*([_shown(run / facts["from_run"])] if "from_run" in facts else []), Path(facts["folder"])]
    found = [open_dataset(place) for place in places if place.is_dir()]
    if not found:
        workspace = str(places[-1].parent.parent)
        raise DataError(
            f"no dataset at {places[-1]}, which {run} was trained on",
            f"make it again: `tilth {shlex.join(['prepare', str(run / 'recipe.json'), '--workspace', workspace])}`, "
            "from the folder that its sources are named from",
        )
    for dataset in found:
        if dataset.fingerprint == facts["fingerprint"]:
            return dataset
    raise DataError(
        f"{found[0].folder} is not the dataset that {run} was trained on",
        "prepare the data again, or evaluate a file: --data FILE",
    )


def not_the_end(path: Path | str, which: str | int, used: Path) -> str | None:
    """What should be said when the weights of a run are used that went on after them, or has not ended; else None.

    Args:
        used: the folder of the weights: not the newest checkpoint where that is damaged.
    """
    run = Path(path)
    if which != "final" or not (run / "recipe.json").exists():
        return None
    names = [folder.name.removeprefix("step-") for folder in (run / "checkpoints").glob("step-*")]
    newest = max((int(name) for name in names if name.isdecimal()), default=0)
    if not (run / "final").exists():
        step = used.name.removeprefix("step-")
        return _not_ended(run, int(step)) if step.isdecimal() and int(step) else None
    if not (run / "final" / MANIFEST).exists():
        return None
    facts = read_manifest(run / "final")
    if not isinstance(facts.get("end"), int) or newest <= facts["end"]:
        return None
    return f"{run}: final, step {facts.get('step')}; the run has gone on to step {newest}: --checkpoint latest"


def _not_ended(run: Path, step: int) -> str:
    train = RunFolder(run).recipe().get("train")
    planned = train.get("steps") if isinstance(train, dict) else None
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    return f"{run} has not ended: weights of step {step:,}{of}"


def _shown(path: Path) -> Path:
    """A path as people write it: without detours, from the current folder where it lies in that."""
    whole, here = path.resolve(), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


def reading_habits(recipe: Recipe) -> dict[str, Any]:
    """How further text for the same model has to be read, cleaned and put into rows; the format, and what is taken of a
    row, where all sources agree. The chat template itself lies beside the model.
    """
    data, masked = recipe.data, recipe.train.traits.hides_tokens
    formats = {source.format for source in data.sources}
    rows = [_taken(source) for source in data.sources if _holds_rows(source)]
    return {
        "objective": recipe.train.objective,
        "packed": recipe.packs,
        "masking": (recipe.train.masking or MaskingConfig()).model_dump() if masked else None,
        "chat": data.chat and data.chat.model_dump(mode="json", exclude={"template"}),
        "clean": data.model_dump(mode="json")["clean"],
        "cross_document_attention": data.cross_document_attention,
        "format": formats.pop() if len(formats) == 1 else "auto",
        "rows": rows[0] if rows and all(row == rows[0] for row in rows) else {},
    }


def traits_of(habits: Mapping[str, Any]) -> ObjectiveTraits:
    """What the objective asks that a model was trained by; those who say none have the default one.

    CheckpointError when this tilth does not have it.
    """
    name = habits.get("objective", DEFAULT_OBJECTIVE)
    if name not in OBJECTIVES:
        raise CheckpointError(
            f"the model was trained with objective {name!r}, and this version of tilth has {', '.join(OBJECTIVES)}",
            "use the version of tilth that trained it",
        )
    return OBJECTIVES[name]


def _taken(source: SourceConfig) -> dict[str, Any]:
    """`field`, `template` or `map`, `separator` and `records`, where they are not the default."""
    return source.model_dump(mode="json", include=set(_ROW_KEYS), exclude_defaults=True)


def _holds_rows(source: SourceConfig) -> bool:
    if source.format != "auto":
        return source.format in ROWS
    name = urlsplit(source.url).path if source.url else source.path or ""
    return kind_of(name) in ROWS or bool(_taken(source))
