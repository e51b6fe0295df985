"""The job behind `tilth quickstart`: the embedded recipe, and what makes its result mean something."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path

from tilth.core.files import read_json, write_json
from tilth.core.rundir import RunFolder
from tilth.data.dataset import Dataset
from tilth.jobs.recipe import Recipe, load_shipped, make_recipe
from tilth.jobs.runs import stored_recipe

RECIPE = "quickstart"


def quickstart_recipe(
    run: Path, minutes: float | None, steps: int | None, name: str = RECIPE, sets: Sequence[str] = ()
) -> Recipe:
    """The recipe that the run folder was begun with, else the shipped one, with the length that is asked for.

    A run that was begun with another tilth goes on as it was, whatever recipe is shipped by now.

    Args:
        sets: what else is changed of it, as `--set` does.
    """
    overrides = list(sets)
    if steps is not None:
        overrides += ["train.hours=null", f"train.steps={steps}"]
    elif minutes is not None:
        overrides += ["train.steps=null", f"train.hours={minutes / 60}"]
    shipped, folder = load_shipped(name, overrides), RunFolder(run)
    if not (run / "recipe.json").exists():
        return shipped
    stored = stored_recipe(folder)
    if folder.begun and (stored.name, stored.data.sources) == (shipped.name, shipped.data.sources):
        return make_recipe(stored.plain(), overrides, str(run / "recipe.json"))
    length = [f"train.{key}={_yaml(getattr(stored.train, key))}" for key in ("hours", "steps")]
    return load_shipped(name, overrides if minutes is not None or steps is not None else [*overrides, *length])


def _yaml(value: float | None) -> str:
    return "null" if value is None else repr(value)


def xz_bits_per_byte(dataset: Dataset, run: Path) -> float:
    """What `xz -9e` needs for the held-out text, in bits per byte: a model that predicts should need fewer.

    The text is what the validation tokens decode to, documents joined by a newline. Kept in RUN/xz.json.
    """
    path = run / "xz.json"
    if path.exists() and (kept := read_json(path))["dataset"] == dataset.fingerprint:
        return float(kept["bits_per_byte"])
    stream, tokenizer = dataset.stream("validation"), dataset.tokenizer
    ids = stream.read(0, stream.tokens)
    newline = tokenizer.encode("\n")
    ids[ids == tokenizer.end_of_text] = newline[0]
    text = tokenizer.decode_bytes(ids)
    compressed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    bits = 8 * len(compressed) / len(text)
    write_json(path, {"dataset": dataset.fingerprint, "bytes": len(text), "bits_per_byte": bits})
    return bits
