"""What scripts may rely on, written down once more: names, commands, exit codes and the keys of a recipe.

A change here is a change for everyone who uses tilth: it belongs into CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import tilth
from tilth.cli.main import app
from tilth.core import errors
from tilth.core.errors import TilthError
from tilth.jobs.recipe import Recipe
from tilth.training.config import TrainConfig

HOMES = {
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
COMMANDS = [
    "chat", "check", "evaluate", "export", "generate", "init", "prepare", "quickstart", "report", "schema", "trace",
    "train",
]  # fmt: skip
OPTIONS = {
    "chat": {
        "--system", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--seed", "--adapter", "--checkpoint",
        "--dtype", "--wrapped",
    },
    "check": {"--run", "--fit", "--price", "--workspace", "--workers", "--set", "--json"},
    "evaluate": {
        "--data", "--format", "--field", "--separator", "--pseudo-perplexity", "--adapter", "--checkpoint", "--wrapped",
        "--json",
    },
    "export": {"--to", "--out", "--dtype", "--base", "--checkpoint", "--wrapped", "--push", "--private", "--json"},
    "generate": {
        "--prompt", "--chat", "--system", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--seed", "--stop",
        "--samples", "--adapter", "--checkpoint", "--wrapped", "--dtype",
    },
    "init": {"--template"},
    "prepare": {
        "--workspace", "--executor", "--workers", "--verify", "--prune", "--prune-datasets", "--dry-run", "--sample",
        "--set", "--json",
    },
    "quickstart": {"--run", "--workspace", "--workers", "--minutes", "--steps", "--chat"},
    "report": {"--html", "--workspace", "--json"},
    "schema": set(),
    "trace": {"--doc", "--step", "--workspace", "--json"},
    "train": {"--run", "--workspace", "--workers", "--set", "--json"},
}  # fmt: skip
EXIT_CODES = {
    "TilthError": 1,
    "RecipeError": 2,
    "DataError": 3,
    "IntegrityError": 3,
    "StorageError": 3,
    "CheckpointError": 4,
    "DivergedError": 5,
    "PeerError": 6,
    "Stopped": 75,
    "Aborted": 130,
}
RECIPE_KEYS = ["adapter", "data", "evaluate", "model", "name", "sample", "tokenizer", "train"]
TRAIN_KEYS = [
    "activation_checkpointing", "batch_tokens", "checkpoint", "compile", "convergence", "device", "early_stopping",
    "epochs", "final", "freeze", "grad_clip", "hours", "masking", "memory", "micro_batch", "objective", "optimizer",
    "precision", "price_per_hour", "schedule", "seed", "steps", "tokens",
]  # fmt: skip
PARAMETERS = {
    "check": ["recipe", "workspace", "workers", "run"],
    "evaluate": ["run", "data", "which", "format", "field", "adapter", "pseudo_tokens", "wrapped"],
    "export": ["path", "out", "to", "which", "dtype", "base", "wrapped"],
    "history": ["run"],
    "load": ["path", "which", "device", "wrapped", "adapter", "dtype"],
    "load_recipe": ["path", "overrides"],
    "make_recipe": ["data", "overrides", "place"],
    "prepare": ["recipe", "workspace", "workers", "executor"],
    "train": ["recipe", "run", "workspace", "workers", "emit"],
}


def in_a_fresh_python(code: str) -> str:
    """What a script prints; a warning in it is an error."""
    words = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert tilth.__all__ == sorted(HOMES)
    assert set(HOMES) <= set(dir(tilth))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tilth.nothing


@pytest.mark.parametrize("name", sorted(HOMES))
def test_a_public_name_is_what_its_home_calls_so(name: str) -> None:
    value = getattr(tilth, name)
    assert not isinstance(value, ModuleType), f"tilth.{name} is the package of that name"
    assert value is getattr(importlib.import_module(HOMES[name]), name)
    assert value.__module__ == HOMES[name] and value.__doc__
    if name in PARAMETERS:
        assert list(inspect.signature(value).parameters) == PARAMETERS[name]


def test_no_module_is_called_as_a_public_name() -> None:
    """Else importing the module would put it in the name's place."""
    assert not {module.name for module in pkgutil.iter_modules(tilth.__path__)} & {*HOMES}


def test_the_version_is_the_installed_one() -> None:
    assert tilth.__version__ == importlib.metadata.version("tilth")


def test_importing_tilth_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import tilth; print(*sorted(set(sys.modules) - before))"
    came = {name.partition(".")[0] for name in in_a_fresh_python(code).split()}
    assert "tilth" in came
    assert not came & {"torch", "numpy", "pyarrow", "pydantic", "yaml", "typer", "rich", "tiktoken", "tokenizers"}


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_answers_at_once(words: list[str]) -> None:
    worked, waited = [], []
    for _ in range(5):  # the best of five, by the processor's clock: what else the machine does is no fault of tilth's
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "tilth", *words], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        waited.append(time.perf_counter() - start)
        assert done.returncode == 0 and "Usage: " in done.stdout, done.stderr
    assert min(worked) < 0.3 and min(waited) < 3, (worked, waited)


def test_the_commands_and_their_options_are_these() -> None:
    group = typer.main.get_command(app)
    assert sorted(group.commands) == COMMANDS  # type: ignore[attr-defined]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        options = {word for parameter in command.params for word in parameter.opts if word.startswith("--")}
        assert options == OPTIONS[name], name
        assert command.help, name


def test_every_error_has_its_exit_code() -> None:
    tree = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    assert all(issubclass(value, TilthError) for value in tree.values())
    assert {name: getattr(value, "exit_code", None) for name, value in tree.items()} == EXIT_CODES
    assert issubclass(errors.IntegrityError, errors.DataError)
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in EXIT_CODES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [(["train", "nothing.yaml"], 2), (["evaluate", "nothing"], 2), (["nothing"], 2), (["train"], 2)],
)
def test_a_fault_of_the_user_gives_its_exit_code_and_no_traceback(tmp_path: Path, words: list[str], code: int) -> None:
    command = [sys.executable, "-W", "error", "-m", "tilth", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_keys_of_a_recipe_are_these() -> None:
    assert sorted(Recipe.model_fields) == RECIPE_KEYS
    assert sorted(TrainConfig.model_fields) == TRAIN_KEYS


def test_the_schema_is_json_schema_of_the_same_keys() -> None:
    schema = json.loads(json.dumps(Recipe.model_json_schema()))
    assert sorted(schema["properties"]) == RECIPE_KEYS and schema["additionalProperties"] is False
    assert sorted(schema["$defs"]["TrainConfig"]["properties"]) == TRAIN_KEYS
