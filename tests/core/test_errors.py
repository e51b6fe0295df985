"""What every error of the tree can do, whatever its class makes its message of."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import tilth
from tilth.core.errors import TilthError

GIVEN: dict[str, Any] = {"str": "said", "int": 404}


def subclasses(kind: type[TilthError]) -> Iterator[type[TilthError]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def kinds() -> list[type[TilthError]]:
    for module in pkgutil.walk_packages(tilth.__path__, "tilth."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = {one for one in subclasses(TilthError) if one.__module__.startswith("tilth.")}
    return [TilthError, *sorted(ours, key=lambda kind: (kind.__module__, kind.__name__))]


def made(kind: type[TilthError]) -> TilthError:
    """One of it, with a value of its type for each argument."""
    return kind(*(GIVEN[argument.annotation] for argument in inspect.signature(kind).parameters.values()))


def test_any_error_has_another_remedy_and_survives_the_trip_from_a_worker() -> None:
    found = kinds()
    assert {"RefusedError", "UnfitFileError", "BombError", "Stopped"} <= {kind.__name__ for kind in found}
    for kind in found:
        error = made(kind)
        error.told = True
        other = error.with_remedy("another")
        assert type(other) is kind and str(other) == f"{error.message}\n  remedy: another"
        assert vars(other) == {**vars(error), "remedy": "another"} and other.args == (error.message, "another")
        for one in (error, other):
            back = pickle.loads(pickle.dumps(one))
            assert type(back) is kind and vars(back) == vars(one) and back.args == one.args and str(back) == str(one)
