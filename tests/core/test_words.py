"""Numbers in sentences."""

from __future__ import annotations

import pytest

from tilth.core.words import plural


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1234, "1,234 files")])
def test_one_is_not_several(number: int, said: str) -> None:
    assert plural(number, "file") == said
