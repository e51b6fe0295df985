"""Which files a data set's names and card mean.

What each layout must give was compared with `datasets` 5.2.0 (`get_data_patterns`, `resolve_pattern`).
"""

from __future__ import annotations

import fnmatch
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.sources.hub_config import HubConfig
from tilth.data.sources.hub_layout import Card, choose, matches, read_card


def chosen(names: list[str], card: Card | None = None, **keys: Any) -> list[str]:
    config = parse(HubConfig, {"dataset": "org/set", **keys})
    return list(choose(names, card or Card(), config, None, "org/set@main").names)


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (["train.csv", "test.csv"], "train", ["train.csv"]),
        (["train.csv", "test.csv"], "test", ["test.csv"]),
        (["data/my_split-00000-of-00001.csv", "data/train-00000-of-00001.csv"], "my_split", None),
        (["train/a.csv", "train/b.csv", "dev/a.csv"], "train", ["train/a.csv", "train/b.csv"]),
        (["train/a.csv", "train/b.csv", "dev/a.csv"], "validation", ["dev/a.csv"]),
        (["my_train_file_1.csv", "my-eval.csv", "trainer.csv"], "train", ["my_train_file_1.csv"]),
        (["all_train_data/a.csv", "b-validation-1/c.csv"], "validation", ["b-validation-1/c.csv"]),
        (["en/train.jsonl", "en/test.jsonl", "de/train.jsonl"], "train", ["de/train.jsonl", "en/train.jsonl"]),
        (["training.csv", "evaluation.csv", "latest.csv"], "test", ["evaluation.csv"]),
        (["x.csv", "sub/y.csv", ".hidden/z.csv", "__x/z.csv"], None, ["sub/y.csv", "x.csv"]),
    ],
)
def test_names_tell_the_split(names: list[str], split: str | None, expected: list[str] | None) -> None:
    keys = {} if split is None else {"split": split}
    assert chosen(names, **keys) == (expected or [names[0]])


def test_without_a_split_it_is_train_or_the_only_one() -> None:
    assert chosen(["test/a.csv", "train/a.csv"]) == ["train/a.csv"]
    assert chosen(["test/a.csv"]) == ["test/a.csv"]
    with pytest.raises(DataError, match="several splits") as caught:
        chosen(["test/a.csv", "dev/a.csv"])
    assert "validation, test" in caught.value.remedy


def test_the_most_frequent_kind_is_the_data_set() -> None:
    config = parse(HubConfig, {"dataset": "org/set"})
    choice = choose(["a.csv", "b.csv", "notes.txt"], Card(), config, None, "org/set@main")
    assert (choice.names, choice.kind, choice.others) == (("a.csv", "b.csv"), "csv", ("notes.txt",))
    given_ = choose(["a.csv", "b.csv", "notes.txt"], Card(), config, "text", "org/set@main")
    assert (given_.names, given_.others) == (("notes.txt",), ("a.csv", "b.csv"))
    assert choose(["a.csv", "x.py", "y.py"], Card(), config, None, "org/set@main").names == ("a.csv",)
    with pytest.raises(DataError, match=r"none of these files can be read: a\.bin") as caught:
        choose(["a.bin"], Card(), config, None, "org/set@main")
    assert "refs/convert/parquet" in caught.value.remedy


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("data_files: data.csv", {"train": ["data.csv"]}),
        ("data_files: [a.csv, ./b.csv]", {"train": ["a.csv", "b.csv"]}),
        (
            "data_files: [{split: x, path: a.csv}, {split: y, path: [b/*.csv, c.csv]}]",
            {"x": ["a.csv"], "y": ["b/*.csv", "c.csv"]},
        ),
        ("data_dir: en", {"train": ["en/**"]}),
        ("data_dir: ./en/\n  data_files: '*.csv'", {"train": ["en/*.csv"]}),
    ],
)
def test_forms_of_a_card(yaml: str, expected: dict[str, list[str]]) -> None:
    card = read_card(f"---\nlicense: mit\nconfigs:\n- config_name: one\n  {yaml}\n---\n# Text\n", "README.md")
    assert card.configs == {"one": expected} and card.license == "mit"


def test_cards_that_say_nothing_or_nonsense() -> None:
    assert read_card("# No card\n---\nconfigs: []\n---\n", "README.md") == Card()
    assert read_card("---\n- a\n- b\n---\n", "README.md") == Card()
    assert read_card("---\nconfigs: 7\n---\n", "README.md") == Card()
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_card("---\na: [\n---\n", "README.md")
    assert "files:" in caught.value.remedy
    with pytest.raises(DataError, match="data_files"):
        read_card("---\nconfigs:\n- data_files: [7]\n---\n", "README.md")


def test_a_card_with_several_configurations_wants_one_named() -> None:
    card = Card({"en": {"train": ["en/*"]}, "de": {"train": ["de/*"]}})
    with pytest.raises(DataError, match="several configurations") as caught:
        chosen(["en/a.csv"], card)
    assert "en, de" in caught.value.remedy
    assert chosen(["de/a.csv", "en/a.csv"], card, config="de") == ["de/a.csv"]
    with pytest.raises(DataError, match="has no files"):
        chosen(["en/a.csv"], card, config="de")


@pytest.mark.parametrize(
    ("glob", "name", "fits"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "x/a.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "x/y/a.csv", True),
        ("x/**", "x/y/a.csv", True),
        ("x/**", "y/a.csv", False),
        ("x/**/z/*.csv", "x/z/a.csv", True),
        ("x/**/z/*.csv", "x/y/z/a.csv", True),
        ("data/train-?????-of-0000[0-3].csv", "data/train-00001-of-00002.csv", True),
        ("data/[!t]*", "data/train", False),
        ("", "a", False),
    ],
)
def test_globs(glob: str, name: str, fits: bool) -> None:
    assert matches(name, glob) is fits


@given(st.text("ab*?[]!", max_size=8), st.text("ab", max_size=8))
def test_within_one_folder_globs_are_those_of_fnmatch(glob: str, name: str) -> None:
    if glob != "**":
        assert matches(name, glob) == fnmatch.fnmatchcase(name, glob)


def test_a_hostile_glob_takes_no_time() -> None:
    start = time.process_time()
    assert not matches("a/" * 50 + "a" * 100, "**/" * 30 + "a*" * 30 + "b")
    assert time.process_time() - start < 1
