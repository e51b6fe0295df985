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


POLISH = "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw, <b>każdy</b> z nich."
TURKISH = "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler."
ICELANDIC = "Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum, og ber þeim að breyta bróðurlega."
RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах."


@pytest.mark.parametrize(
    ("language", "text", "encoding"),
    [
        ("pl", POLISH, "cp1250"),
        ("pl-PL", POLISH, "iso8859-2"),
        ("tr", TURKISH, "cp1254"),
        ("ru", RUSSIAN, "cp1251"),
        ("is", ICELANDIC, "cp1252"),
        ("zh-TW", "人人生而自由,在尊嚴和權利上一律平等。", "big5hkscs"),
    ],
)
def test_a_page_that_states_its_language_alone_is_read_as_such_pages_were(
    language: str, text: str, encoding: str
) -> None:
    page = f'<html lang="{language}"><p>{text}</p>'
    found, faults = decode(page.encode(encoding))
    assert found == page and [(fault.rule, fault.value) for fault in faults] == [("charset", encoding)]


@pytest.mark.parametrize(
    ("text", "encoding"), [(POLISH, "cp1250"), (TURKISH, "cp1254"), (RUSSIAN, "cp1251"), (POLISH, "iso8859-2")]
)
def test_one_that_states_nothing_gets_no_wrong_letters(text: str, encoding: str) -> None:
    found, faults = decode(text.encode(encoding))
    assert [fault.rule for fault in faults] == ["invalid_utf8"]
    assert found.replace("\ufffd", "") == "".join(letter for letter in text if letter.isascii())


@pytest.mark.parametrize("text", [ICELANDIC, "Un col·legi de 20 m³, nº 5 de l’été: «œuvre»", "¿Qué? ¡1ª vez!"])
def test_and_what_is_windows_1252_is_read_so(text: str) -> None:
    assert decode(text.encode("cp1252"))[0] == text


def test_a_page_of_utf_8_with_a_byte_astray_keeps_its_letters_whatever_its_language() -> None:
    page = f'<html lang="pl"><p>{POLISH}'.encode() + b"\xb3"
    assert decode(page)[0] == page.decode("utf-8", "replace")
