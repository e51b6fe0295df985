"""Training goes on with what is prepared, rather than bring a source anew whose downloads are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.test_sources_origins import EXAMPLES
from tilth.core.errors import DataError
from tilth.jobs.prepare import _still_here
from tilth.jobs.recipe import make_recipe

SOURCES = [(said, reach) for said, _, reach in EXAMPLES.values()] + [({"hub": {"folder": "saved"}}, "here")]


@pytest.mark.parametrize(("said", "reach"), SOURCES)
def test_what_is_brought_is_not_brought_again(said: dict[str, Any], reach: str, tmp_path: Path) -> None:
    recipe = make_recipe({"name": "small", "data": {"sources": [said]}, "train": {"steps": 1}})
    if reach == "brought":
        with pytest.raises(DataError, match="what was downloaded is gone"):
            _still_here(recipe, tmp_path)
        (tmp_path / "downloads").mkdir()
    _still_here(recipe, tmp_path)
