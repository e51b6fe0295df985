"""Languages are told apart; code and scraps are of none; nothing depends on the batch or on what is switched on."""

from __future__ import annotations

import itertools
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.document import Document
from tilth.data.stages import language as module
from tilth.data.stages import language_model
from tilth.data.stages.base import Result
from tilth.data.stages.language import (
    LANGUAGE_STAGES,
    LANGUAGES,
    LanguageOptions,
    detect,
    language,
    looks_like_code,
    sample_of,
)
from tilth.data.stages.table import build_stages

# Article 1 of the Universal Declaration of Human Rights (United Nations, 1948), in 35 languages.
ARTICLE = dict(
    line.split("\t") for line in (Path(__file__).parent / "human_rights.tsv").read_text("utf-8").splitlines()
)
CLOSE = {"id": ("ms",)}  # Indonesian and Malay are told apart by a long text only
HEADER = "Home | About us | Contact | Subscribe to our newsletter | Terms and conditions | All rights reserved.\n"
CODE = {
    "C": "#include <stdio.h>\n\nint main(int argc, char **argv)\n{\n    for (int i = 0; i < argc; i++)\n"
    '        printf("%s\\n", argv[i]);\n    return 0;\n}\n',
    "Python": "import os\n\n\ndef walk(path):\n    for name in os.listdir(path):\n"
    "        full = os.path.join(path, name)\n"
    "        if os.path.isdir(full):\n            walk(full)\n        else:\n            found[full] = os.stat(full)\n",
    "JSON": '{"name": "x", "version": [1, 2], "scripts": {"test": "jest", "build": "tsc"},\n "private": true,\n}\n' * 3,
    "CSS": "a:hover {\n  color: #fff;\n  margin: 0 auto;\n}\n.menu > li {\n  display: none;\n  float: left;\n}\n",
}


@pytest.fixture(scope="module", autouse=True)
def package() -> Any:
    """The package itself, to compare with; and the model is loaded, which no test's deadline allows for."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    language_model.load()
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def document(text: str, **meta: str) -> Document:
    return Document("id", text, "source", "place", meta=meta)


def made(text: str, **options: object) -> Result:
    return language([document(text)], parse(LanguageOptions, options))[0]


def found_in(text: str) -> tuple[str, float]:
    return detect([text])[0]


@pytest.mark.slow
@pytest.mark.parametrize("code", sorted(ARTICLE))
def test_a_paragraph_is_enough(code: str) -> None:
    found, score = found_in(ARTICLE[code])
    assert found in (code, *CLOSE.get(code, ())) and score > 0.5


def test_a_few_words_are_mostly_enough() -> None:
    scraps = [(code, text[at : at + 50]) for code, text in ARTICLE.items() for at in range(0, len(text) - 50, 25)]
    right = sum(found_in(scrap)[0] == code for code, scrap in scraps)
    assert len(scraps) > 100 and right / len(scraps) > 0.93, f"{right} of {len(scraps)}"


def test_what_is_sure_is_right() -> None:
    scraps = [(code, text[at : at + 50]) for code, text in ARTICLE.items() for at in range(0, len(text) - 50, 25)]
    sure = [(code, found) for code, scrap in scraps for found, score in [found_in(scrap)] if score > 0.7]
    assert len(sure) > 0.8 * len(scraps)
    assert sum(code == found for code, found in sure) / len(sure) > 0.99


@pytest.mark.parametrize("name", sorted(CODE))
def test_code_is_no_language(name: str) -> None:
    assert found_in(CODE[name]) == ("und", 0.0)
    assert found_in(CODE[name] * 50) == ("und", 0.0)


def test_most_modules_of_python_are_code_and_no_prose_is() -> None:
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::4]
    found = [looks_like_code(sample_of(path.read_text("utf-8"))) for path in paths if path.stat().st_size > 1000]
    assert len(found) > 30 and sum(found) / len(found) > 0.7  # the others are docstrings for the most part
    assert not any(looks_like_code(sample_of(text * 3)) for text in ARTICLE.values())


def test_source_files_are_code_whatever_their_comments_are_written_in() -> None:
    for text in (ARTICLE["fr"], CODE["C"]):
        source = document(text, code="rust")
        (kept,) = language([source], parse(LanguageOptions, {"keep": ["en"], "unsure": "drop"}))
        assert (kept.text, kept.meta) == (text, {"language": "und", "language_score": 0.0})
        (dropped,) = language([source], parse(LanguageOptions, {"unknown": "drop"}))
        assert (dropped.text, dropped.rule, dropped.value) == (None, "language/und", 0.0)


@pytest.mark.parametrize(
    "text", ["", "Hello!", "12345 67890 --- 55.3 %", "Ein kurzer Satz.", "\ud800" * 50, "\n" * 3000]
)
def test_scraps_are_of_no_language(text: str) -> None:
    assert found_in(text) == ("und", 0.0)


def test_what_no_language_is_written_like_is_unknown() -> None:
    assert found_in("qx zvbk wjfp qqtz kkrv xzwq pplm vbnz qwxj zzkt fgvq " * 5)[0] == "und"


def test_a_foreign_header_decides_nothing() -> None:
    for code in ("de", "ru", "ja", "tr"):
        assert found_in(HEADER + ARTICLE[code] * 20)[0] == code


def test_of_a_long_text_eight_pieces_are_read() -> None:
    assert sample_of("x" * 1000) == "x" * 1000
    text = "".join(chr(0x4E00 + n) for n in range(20_000))
    pieces = sample_of(text).split("\n")
    assert [len(piece) for piece in pieces] == [125] * 8
    starts = [text.index(piece) for piece in pieces]
    assert starts[0] == 0 and starts[-1] == len(text) - 125
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert max(gaps) - min(gaps) <= 1
    unread = starts[2] + 200
    assert sample_of(text[:unread] + "?" + text[unread + 1 :]) == sample_of(text)


def test_every_document_says_its_language() -> None:
    result = made(ARTICLE["fr"])
    assert result.text == ARTICLE["fr"]
    assert result.meta["language"] == "fr" and 0.5 < result.meta["language_score"] <= 1
    assert made("abc").meta == {"language": "und", "language_score": 0.0}


def test_what_is_not_wanted_goes_with_what_it_was() -> None:
    assert made(ARTICLE["de"], keep=["en", "de"]).text == ARTICLE["de"]
    dropped = made(ARTICLE["fr"], keep=["en", "de"])
    assert (dropped.text, dropped.rule) == (None, "language/fr") and dropped.value > 0.5
    assert made(CODE["C"], keep=["en"]).text == CODE["C"]
    unknown = made(CODE["C"], keep=["en"], unknown="drop")
    assert (unknown.text, unknown.rule, unknown.value) == (None, "language/und", 0.0)
    assert made("abc", unknown="drop").text is None


def test_too_low_a_score_is_not_sure() -> None:
    scrap = "hotel radio taxi bar internet"
    found, score = found_in(scrap)
    assert found != "und" and score < 1
    assert made(scrap, min_score=score).meta["language"] == found
    higher = score + 0.001
    assert made(scrap, min_score=higher).meta == {"language": "und", "language_score": score}
    assert made(scrap, min_score=higher, unknown="drop").text == scrap, "it has a language, though which is not sure"
    assert made(scrap, min_score=higher, keep=[found]).text == scrap
    dropped = made(scrap, min_score=higher, keep=[found], unsure="drop")
    assert (dropped.text, dropped.rule, dropped.value) == (None, f"language/unsure_{found}", score)
    assert made(scrap, min_score=higher, unsure="drop").text is None
    assert made(scrap, min_score=score, unsure="drop").text == scrap


DANISH = "Det er en god ide at komme i god tid."
HINDI = "Mujhe lagta hai ki yeh film bahut achhi hai, lekin kahani thodi lambi thi. Hero ne achha kaam kiya."
LISTING = "Bosch GSR 12V-15 Akkuschrauber 89,99 € Makita DHP482 79,00 € Dewalt DCD778 119,95 €\nIn den Warenkorb\n"
VERSE = "Against all noble sufferance."


@pytest.mark.parametrize("text", [DANISH, HINDI, LISTING])
@pytest.mark.parametrize("min_score", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("unsure", ["keep", "drop"])
def test_a_higher_threshold_keeps_no_foreign_text(text: str, min_score: float, unsure: str) -> None:
    result = made(text, keep=["en"], min_score=min_score, unsure=unsure)
    assert result.text is None and result.value < 0.65
    assert result.rule.startswith("language/unsure_") == (min_score > result.value)


def test_the_preset_for_pages_drops_what_is_not_sure_to_be_english() -> None:
    options = next(stage.options for stage in build_stages("web") if stage.name == "language")
    assert isinstance(options, LanguageOptions)
    texts = [ARTICLE["en"], VERSE, DANISH, "Hello!", CODE["C"]]
    kept = [result.text is not None for result in language(list(map(document, texts)), options)]
    assert kept == [True, False, False, True, True]
    assert made(VERSE, keep=["en"]).text == VERSE and found_in(VERSE)[1] < 0.5


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"keep": ["english"]}, "no language is called 'english'", "en"),
        ({"keep": ["und"]}, "no language is called 'und'", "en"),
        ({"min_score": 2}, "min_score", "1"),
        ({"unknown": "maybe"}, "unknown", "drop"),
        ({"unsure": "maybe"}, "unsure", "drop"),
    ],
)
def test_wrong_options_say_what_and_how(options: dict[str, object], message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(LanguageOptions, options)
    assert message in caught.value.message and remedy in caught.value.remedy


def test_the_languages_are_those_of_the_model(package: Any) -> None:
    assert {module._CODES.get(label, label) for label in package.labels} - {"und"} == LANGUAGES
    assert not {code for code in LANGUAGES if len(code) not in (2, 3)}


ODD = st.text(st.sampled_from("aeiountsr ,.éßЖя中あ\ud800\0A") | st.characters(), max_size=300)


@given(st.lists(ODD | st.sampled_from(sorted(ARTICLE.values())), min_size=1, max_size=6))
@example([""])
@example(["", "ALL IN CAPITALS", "e\u0301 not normalised"])
def test_the_answers_are_those_of_the_package(package: Any, texts: list[str]) -> None:
    expected = [package.classify(text) for text in texts]
    for (label, score), (their_label, their_score) in zip(language_model.classify(texts), expected, strict=True):
        assert score == pytest.approx(their_score, abs=1e-4)
        assert label == their_label or score < 0.5  # two that are as likely: the last bit decides


def test_more_texts_than_are_taken_at_once() -> None:
    texts = [text[n:] for text in ARTICLE.values() for n in range(20)]
    assert len(texts) > 512
    assert language_model.classify(texts)[600:610] == language_model.classify(texts[600:610])


def test_neighbours_in_the_batch_change_nothing() -> None:
    batch = [document(text, **({"code": "c"} if n % 3 == 0 else {})) for n, text in enumerate(ARTICLE.values())]
    run, options = LANGUAGE_STAGES["language"].run, LanguageOptions()
    together = run(batch, options)
    assert together == [run([document], options)[0] for document in batch]
    assert run(batch[::-1], options) == together[::-1]


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    found, score = found_in(text * 3)
    assert found in LANGUAGES | {"und"} and 0 <= score <= 1


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    monkeypatch.setattr(language_model, "load", language_model.load.__wrapped__)
    with pytest.raises(RecipeError, match="py3langid") as caught:
        found_in(ARTICLE["en"])
    assert "pip install 'tilth[web]'" in caught.value.remedy


@pytest.mark.slow
def test_another_process_finds_the_same() -> None:
    code = (
        "import sys; from tilth.data.stages.language import detect\n"
        "for line in sys.stdin.buffer.read().decode().splitlines(): print(*detect([line.split('\\t')[1]])[0])"
    )
    text = (Path(__file__).parent / "human_rights.tsv").read_bytes()
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], input=text, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [" ".join(map(str, found_in(text))) for text in ARTICLE.values()]
