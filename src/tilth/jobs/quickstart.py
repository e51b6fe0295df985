"""The job behind `tilth quickstart`: the embedded recipe, and what makes its result mean something."""

from __future__ import annotations

import lzma
from pathlib import Path

from tilth.core.files import read_json, write_json
from tilth.data.dataset import Dataset
from tilth.jobs.recipe import Recipe, load_shipped

RECIPE = "quickstart"


def quickstart_recipe(run: Path, minutes: float | None, steps: int | None) -> Recipe:
    """The shipped recipe with the length that is asked for, or that the run already has."""
    if steps is not None:
        overrides = ["train.hours=null", f"train.steps={steps}"]
    elif minutes is not None:
        overrides = [f"train.hours={minutes / 60}"]
    else:
        overrides = _length_of(run)
    return load_shipped(RECIPE, overrides)


def _length_of(run: Path) -> list[str]:
    if not (run / "recipe.json").exists():
        return []
    train = read_json(run / "recipe.json")["train"]
    return [f"train.hours={_yaml(train['hours'])}", f"train.steps={_yaml(train['steps'])}"]


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
