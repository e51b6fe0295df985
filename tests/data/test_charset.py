"""Which encoding a page is read in, where what it says and what it is differ."""

from __future__ import annotations

import pytest

from tilth.data.extract.charset import decode

META = '<meta charset="{}"><p>'


@pytest.mark.parametrize("label", ["iso-8859-1", "windows-1252", "latin1"])
@pytest.mark.parametrize("text", ["Où est né l’été ?", "Füße, Größe", "«Где вы?»", "日本語"])
def test_a_page_of_utf_8_is_read_so_though_its_meta_states_latin_1(label: str, text: str) -> None:
    page = META.format(label) + text
    found, faults = decode(page.encode())
    assert found == page and [(fault.rule, fault.value) for fault in faults] == [("charset", "utf-8")]


def test_what_the_server_states_and_what_is_not_utf_8_throughout_stay_as_stated() -> None:
    page = META.format("iso-8859-1") + "Où est né l’été ?"
    assert decode(page.encode("cp1252"))[0] == page
    assert decode(page.encode(), "iso-8859-1")[0] == page.encode().decode("cp1252", "replace")
    mixed = page.encode() + b"\xe9"
    assert decode(mixed)[0] == mixed.decode("cp1252")
    few = META.format("iso-8859-1") + "Ã© is what é becomes".replace("é becomes", "it becomes")
    assert decode(few.encode("cp1252"))[0] == few
    greek = META.format("iso-8859-7") + "Πού"
    assert decode(greek.encode("iso-8859-7"))[0] == greek
