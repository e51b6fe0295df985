"""tilth: from raw text to a language model that its owner can trust.

    recipe = tilth.load_recipe("recipes/shakespeare-char-cpu.yaml")
    result = tilth.train(recipe)                      # prepares the data, trains, resumes
    print(tilth.evaluate(result["run"]))              # a full pass over the held-out text
    print(tilth.load(result["run"]).generate("ROMEO:"))

Names are loaded when first used: importing tilth imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from tilth.core.errors import TilthError
    from tilth.data.dataset import Dataset
    from tilth.evaluation.metrics import Metrics
    from tilth.jobs.api import check, evaluate, export, history, prepare, train
    from tilth.jobs.load import LanguageModel, load
    from tilth.jobs.recipe import Recipe, load_recipe, make_recipe

__all__ = [
    "Dataset",
    "LanguageModel",
    "Metrics",
    "Recipe",
    "TilthError",
    "check",
    "evaluate",
    "export",
    "history",
    "load",
    "load_recipe",
    "make_recipe",
    "prepare",
    "train",
]

_HOMES = {
    "Dataset": "tilth.data.dataset",
    "LanguageModel": "tilth.jobs.load",
    "Metrics": "tilth.evaluation.metrics",
    "Recipe": "tilth.jobs.recipe",
    "TilthError": "tilth.core.errors",
    "check": "tilth.jobs.api",
    "evaluate": "tilth.jobs.api",
    "export": "tilth.jobs.api",
    "history": "tilth.jobs.api",
    "load": "tilth.jobs.load",
    "load_recipe": "tilth.jobs.recipe",
    "make_recipe": "tilth.jobs.recipe",
    "prepare": "tilth.jobs.api",
    "train": "tilth.jobs.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tilth")
    if name not in _HOMES:
        raise AttributeError(f"module 'tilth' has no attribute {name!r}")
    from tilth.core.environment import let_threads_sleep

    let_threads_sleep()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
