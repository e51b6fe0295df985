"""Recipes are refused before anything happens, and the error says where, what and how to mend it."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

import pytest
from pydantic import model_validator

from tilth.core.config import (
    Config,
    apply_overrides,
    differences,
    fingerprint,
    load_yaml,
    parse,
    parse_yaml,
)
from tilth.core.errors import RecipeError


class Inner(Config):
    rate: float = 0.1
    name: str = "x"


class Outer(Config):
    inner: Inner = Inner()
    items: list[Inner] = []
    count: int | None = None
    either: str | Inner = "x"


class Either(Config):
    way: Literal["none", "all"] | Inner = "none"
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3E5", 3e5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("1_000", 1000),
        ("007", 7),
        ("0100", 100),
        ("08", 8),
        ("-010", -10),
        ("+0_10", 10),
        ("010.5", 10.5),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("1:30", "1:30"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("null", None),
        ("[1, a]", [1, "a"]),
    ],
)
def test_yaml_scalars_mean_what_people_expect(text: str, value: object) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["9" * 5000, "!!int abc"])
def test_an_integer_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(RecipeError, match=r"here, line 1, column 1.*is no integer"):
        parse_yaml(text, "here")


def test_a_key_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(RecipeError, match=r"r\.yaml, line 3, column 1.*'a' stands twice"):
        load_yaml(tmp_path / "r.yaml")


def test_python_objects_in_yaml_are_refused() -> None:
    with pytest.raises(RecipeError):
        parse_yaml("!!python/object/apply:os.system ['true']", "here")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"inner": {"rat": 1.0}}, ["inner.rat: unknown key (its value is 1.0)", "did you mean `rate`?"]),
        ({"inner": {"zzz": 1}}, ["inner.zzz: unknown key", "known keys here: name, rate"]),
        ({"items": [{}, {"nam": "a"}]}, ["items.1.nam: unknown key", "did you mean `name`?"]),
        ({"Inner": {}}, ["Inner: unknown key", "did you mean `inner`?"]),
        ({"inner": {"Rate": 1.0}}, ["inner.Rate: unknown key", "did you mean `rate`?"]),
        ({"inner": {"float": 1.0}}, ["inner.float: unknown key", "known keys here: name, rate"]),
        ({"inner": {"the name": "a"}}, ["inner.the name: unknown key", "did you mean `name`?"]),
        ({"either": {"Name": "a"}}, ["either.Name: unknown key", "did you mean `name`?"]),
        ({"rate": 1.0}, ["rate: unknown key", "did you mean `inner.rate`?"]),
        ({"rates": 1.0}, ["rates: unknown key", "did you mean `inner.rate`?"]),
        ({"inner": {"rate": "fast"}}, ["inner.rate: 'fast' (a text) is not valid", "it must be a number"]),
        ({"count": True}, ["count: True (true/false) is not valid"]),
        ({"count": 1.0}, ["count: 1.0 (a number) is not valid"]),
        ({"inner": None}, ["inner: None (empty) is not valid"]),
    ],
)
def test_faults_name_path_value_and_remedy(data: dict[str, object], said: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Outer, data, "my.yaml")
    for words in ["my.yaml", *said]:
        assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_fault_of_the_command_line_is_told_as_one() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Outer, {"inner": {"rate": "x"}, "count": "x"}, "my.yaml", ["inner.rate=x"])
    by_line = {line.split(": ")[0].strip(): line for line in caught.value.message.removeprefix("my.yaml: ").split("\n")}
    assert "from --set inner.rate" in by_line["inner.rate"] and "--set" not in by_line["count"]


def test_only_the_options_that_a_fault_can_come_from_are_named() -> None:
    """A rule of a section names all that was set in it; a rule of a key the option that set it, the last of several."""
    options = ["inner.least=3", "inner.most=2", "inner.odd=0", "count=1"]
    for data, expected in (
        ({"least": 3, "most": 2, "odd": 1}, "from --set inner.least, inner.most, inner.odd)"),
        ({"least": 1, "most": 2, "odd": 2}, "inner.odd: 2 is even (from --set inner.odd)"),
    ):
        with pytest.raises(RecipeError) as caught:
            parse(Section, {"inner": data}, "my.yaml", options)
        assert expected in caught.value.message


class Rules(Config):
    """A section with a rule of its own, and one of a key."""

    least: int
    most: int
    odd: int

    @model_validator(mode="after")
    def _rules(self) -> Rules:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is above most {self.most} | swap them")
        if self.odd % 2 == 0:
            raise ValueError(f"odd: {self.odd} is even | add one")
        return self


class Section(Config):
    """What holds it."""

    inner: Rules


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Outer, {"inner": {"rat": 1}, "count": "x"})
    assert "inner.rat" in str(caught.value) and "count" in str(caught.value)


def test_overrides_take_yaml_values_and_list_indexes() -> None:
    data = {"a": {"b": 1}, "items": [{"x": 1}, {"x": 2}]}
    changed = apply_overrides(data, ["a.b=1e-3", "items.1.x=[1, {y: z}]", "new.deep=null", "text=a=b"])
    assert changed == {
        "a": {"b": 0.001},
        "items": [{"x": 1}, {"x": [1, {"y": "z"}]}],
        "new": {"deep": None},
        "text": "a=b",
    }
    assert data["a"] == {"b": 1}, "the original is not changed"


@pytest.mark.parametrize("override", ["steps", "=3", "items.7.x=1", "items.x=1", "a.b: 3"])
def test_overrides_that_cannot_be_meant(override: str) -> None:
    with pytest.raises(RecipeError):
        apply_overrides({"a": {}, "items": [{}]}, [override])


def test_fingerprint_is_of_values_not_of_their_order() -> None:
    assert fingerprint({"a": 1, "b": [1.5]}) == fingerprint({"b": [1.5], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint(Inner()) == fingerprint({"rate": 0.1, "name": "x"})
    # Written down once: a changed formula would silently redo, or worse reuse, everything that was ever made.
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_differences() -> None:
    assert differences({"a": {"b": 1}, "x": 1}, {"a": {"b": 2}, "x": 1}) == ["a.b: 1 -> 2"]
    assert differences({"h": 0.0334, "e": 2.0}, {"h": 0.011666666666666665, "e": None}) == [
        "e: 2 -> left out",
        "h: 0.0334 -> 0.01167",
    ]
    assert differences({"h": 0.1}, {"h": 0.10000001}) == ["h: 0.1 -> 0.10000001"]
    assert differences({"t": "1", "n": True}, {"t": 1.0, "n": 1.5}) == ["n: True -> 1.5", "t: '1' -> 1"]
    old = {"sources": [{"path": "a.txt", "field": None}], "clean": ["pii", {"min_length": {"words": 3}}], "s": [1]}
    new = {"sources": [{"path": "b.txt", "field": "x"}, {"url": "u", "map": None}], "clean": ["pii"], "s": [1, 2]}
    assert differences(old, new) == [
        "clean.1: {min_length: {words: 3}} -> left out",
        "s: [1] -> [1, 2]",
        "sources.0.field: left out -> 'x'",
        "sources.0.path: 'a.txt' -> 'b.txt'",
        "sources.1: left out -> {url: 'u'}",
    ]


@pytest.mark.parametrize("key", ["list.².x", "list.٣.x", "empty.0.x", "list.1"])
def test_an_item_that_a_list_does_not_have(key: str) -> None:
    with pytest.raises(RecipeError, match="the list has no item") as caught:
        apply_overrides({"list": [{"x": 1}], "empty": []}, [f"{key}=2"])
    assert "-1" not in caught.value.remedy


def test_the_keys_of_older_yaml_are_texts(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base: &b {x: 1}\nkey: {<<: *b}\nlist: [=, <<]\n")
    assert load_yaml(tmp_path / "r.yaml") == {"base": {"x": 1}, "key": {"<<": {"x": 1}}, "list": ["=", "<<"]}


OPEN = "a {} may be missing here or in an earlier line: what begins with {} in line {}, column {} is still open"


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("name: x\ndata:\n\tsources: []\n", "line 3", "indent with spaces"),
        ('name: x\npath: "C:\\data\\me.txt"\n', "line 2", "backslash begins an escape"),
        ('path: "C:\\Users\\me"\n', "line 1", "into single quotes"),
        ("a: {b: [{c: d}]\ne:\n  f: 3\n", "line 2", OPEN.format("}", "{", 1, 4)),
        ("a: 1\n\nb: [{c: d]\n", "line 3", OPEN.format("}", "{", 3, 5)),
        ("a: [1, 2\n\nb: {c: 3}\n", "line 3", OPEN.format("]", "[", 1, 4)),
        ("a: 'x\nb: 3\n", "line 3", OPEN.format("'", "'", 1, 4)),
        ("a: {b: 1}}\n", "line 1", "mend that line"),
    ],
)
def test_faults_of_yaml_that_people_make_most(tmp_path: Path, text: str, place: str, remedy: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"r\.yaml, {place}, .*not YAML") as caught:
        load_yaml(tmp_path / "r.yaml")
    assert remedy in caught.value.remedy and caught.value.remedy.endswith("; `tilth init` writes a good example")


@pytest.mark.parametrize("begin", [b"", codecs.BOM_UTF8])
def test_a_recipe_in_another_encoding_is_refused_with_its_line(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "r.yaml").write_bytes(begin + "a: ä\r\nb: 1\r\n".encode() + b"c: caf\xe9\r\n")
    with pytest.raises(RecipeError, match=r"r\.yaml, line 3: byte 0xe9 is not UTF-8") as caught:
        load_yaml(tmp_path / "r.yaml")
    assert caught.value.remedy == "save the recipe as UTF-8"


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("inner: {name: a, rate: 0,01}\n")
    with pytest.raises(RecipeError, match=r"inner: 1 is no key: keys are texts") as caught:
        parse(Outer, load_yaml(tmp_path / "r.yaml"))
    assert "inner: write a decimal point if this was one number" in caught.value.remedy
    with pytest.raises(RecipeError) as caught:
        parse(Outer, {"inner": {"rate": "0,01"}})
    assert caught.value.remedy == "inner.rate: give a number with a decimal point, 0.01"


def test_a_word_where_keys_may_stand_too_is_one_complaint() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Either, {"way": "off", "inner": "off"})
    assert caught.value.message.count("'off'") == 2 and caught.value.remedy.count("give") == 2
    assert "way: give 'none' or 'all'" in caught.value.remedy and "inner: give keys and values" in caught.value.remedy


@pytest.mark.parametrize(
    ("typed", "there", "remedy"),
    [
        ("my-text", ["my-text.yaml", "other.yaml"], "did you mean {}/my-text.yaml?"),
        ("my-txt.yaml", ["my-text.yaml", "zoo.yaml"], "did you mean {}/my-text.yaml?"),
        ("r.yaml", ["one.yaml", "two.yml", "text.txt"], "the recipes there: one.yaml, two.yml"),
        ("d.yaml", ["r.yaml"], "the recipes there: r.yaml; or write"),
        ("r.yaml", ["text.txt"], "check the path, or write one with `tilth init`"),
        ("no/folder/r.yaml", ["one.yaml"], "check the path"),
    ],
)
def test_a_recipe_that_is_missing_names_those_that_are_there(
    tmp_path: Path, typed: str, there: list[str], remedy: str
) -> None:
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(RecipeError, match="no recipe at") as caught:
        load_yaml(tmp_path / typed)
    assert caught.value.remedy.startswith(remedy.format(tmp_path))


def test_a_folder_is_not_offered_as_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "foo.yaml").mkdir()
    with pytest.raises(RecipeError, match="no recipe at") as caught:
        load_yaml(tmp_path / "fo.yaml")
    assert caught.value.remedy == "check the path, or write one with `tilth init`"
