"""The tables of origins and readers: that they are whole, and that what reads them asks them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.forecast.units import look, not_here
from tilth.data.sources import SourceConfig
from tilth.data.sources.inputs import ARCHIVES, KINDS, Kind
from tilth.data.sources.origins import ORIGINS, Reach
from tilth.data.sources.readers import READERS

NOWHERE = "http://127.0.0.1:9/"
SYNTHETIC = {"base_url": NOWHERE, "model": "m", "prompt": "About {topic}.", "topics": ["tides"], "requests": 1}
EXAMPLES: dict[str, tuple[dict[str, Any], str, Reach]] = {
    "path": ({"path": "/home/me/texts/**/*.md"}, "texts/**/*.md", "here"),
    "url": ({"url": "https://me.example/a.txt?b=1", "sha256": "0" * 64}, "me.example/a.txt", "brought"),
    "builtin": ({"builtin": "python_docs"}, "python_docs", "here"),
    "crawl": ({"crawl": {"start": ["https://me.example/"], "contact": "a@b.example"}}, "me.example", "brought"),
    "common_crawl": ({"common_crawl": {"paths": "/home/me/wet.paths"}}, "wet.paths", "brought"),
    "hub": ({"hub": "someone/something"}, "someone/something", "brought"),
    "deeplake": ({"deeplake": "/home/me/lake"}, "lake", "made"),
    "synthetic": ({"synthetic": SYNTHETIC}, "synthetic/m", "brought"),
}
"""A source of each origin, what it is called, and what listing it does."""
FOLDER_OF_HUB = parse(SourceConfig, {"hub": {"folder": "saved"}})


def source_of(key: str, **more: Any) -> SourceConfig:
    return parse(SourceConfig, {**EXAMPLES[key][0], **more})


def test_every_origin_is_a_key_of_a_source() -> None:
    assert list(EXAMPLES) == list(ORIGINS)
    for key, origin in ORIGINS.items():
        assert SourceConfig.model_fields[key].default is None and origin.key == key
        assert source_of(key).origin is origin


@pytest.mark.parametrize("key", ORIGINS)
def test_every_origin_has_somebody_who_lists_it(key: str) -> None:
    module, _, function = ORIGINS[key].lister.partition(":")
    assert list(inspect.signature(getattr(import_module(module), function)).parameters) == [
        "config",
        "root",
        "downloads",
    ]


@pytest.mark.parametrize("key", ORIGINS)
def test_a_source_is_called_what_it_is_and_not_where_it_lies(key: str) -> None:
    assert source_of(key).source_name == EXAMPLES[key][1] and source_of(key, name="mine").source_name == "mine"


@pytest.mark.parametrize("key", ORIGINS)
def test_a_forecast_lists_only_what_is_here(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, reach = source_of(key), EXAMPLES[key][2]
    assert source.reach == reach and bool(not_here(source, tmp_path)) == (reach != "here")
    if reach != "here":
        monkeypatch.setattr("tilth.data.forecast.units.list_inputs", lambda *_: pytest.fail("it was listed"))
        assert look(source, tmp_path, tmp_path).missing


def test_a_folder_of_a_data_set_is_here(tmp_path: Path) -> None:
    assert FOLDER_OF_HUB.reach == "here" and not_here(FOLDER_OF_HUB, tmp_path) == ""


@pytest.mark.parametrize("key", ORIGINS)
def test_keys_that_an_origin_has_no_use_for_are_refused(key: str) -> None:
    origin = ORIGINS[key]
    for more, may in (({"separator": ";"}, origin.csv), ({"exclude": ["a"]}, not origin.no_exclude)):
        if may:
            assert source_of(key, **more).origin is origin
        else:
            with pytest.raises(RecipeError, match=re.escape("separator" if "separator" in more else "exclude")) as said:
                source_of(key, **more)
            assert origin.no_exclude in said.value.remedy or "separator" in more


def test_every_kind_of_file_has_one_reader() -> None:
    assert {*READERS} | {*ARCHIVES} == {*get_args(Kind)} and not {*READERS} & {*ARCHIVES}
    assert {*KINDS.values()} <= {*get_args(Kind)}
