import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tilth.core.errors import DataError, IntegrityError
from tilth.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

TRICKY = " \t\n\r\u00a0\u2028'sStTlLrReEvVdDmM123.,<|>aé中ſK😀\u0301\x00"
texts = st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return {}


def loaded_by_transformers(tokenizer: Tokenizer, folder: Path, known: dict[str, Any]) -> Any:
    if tokenizer.fingerprint not in known:
        tokenizer.save(folder)
        known[tokenizer.fingerprint] = AutoTokenizer.from_pretrained(folder)
    return known[tokenizer.fingerprint]


def ids_of(other: Any, text: str) -> list[int]:
    ids: list[int] = other(text)["input_ids"]  # by default, as people call it
    return ids


def test_transformers_gives_the_same_ids(
    any_kind: Tokenizer, corpus: list[str], tmp_path: Path, theirs: dict[str, Any]
) -> None:
    other = loaded_by_transformers(any_kind, tmp_path, theirs)
    for text in [*corpus[:10], "<|endoftext|> as text <|mask|>"]:
        ids = any_kind.encode(text)
        assert ids_of(other, text) == ids
        assert other.decode(ids) == text
    assert len(other) == any_kind.vocab_size
    assert other.eos_token_id == any_kind.end_of_text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(text=texts)
def test_transformers_gives_the_same_ids_on_any_text(
    any_kind: Tokenizer, text: str, tmp_path: Path, theirs: dict[str, Any]
) -> None:
    assert ids_of(loaded_by_transformers(any_kind, tmp_path, theirs), text) == any_kind.encode(text)


def test_what_is_loaded_is_what_was_saved(any_kind: Tokenizer, corpus: list[str], tmp_path: Path) -> None:
    any_kind.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(any_kind)
    assert again.fingerprint == any_kind.fingerprint
    assert again.special_tokens == any_kind.special_tokens and again.training == any_kind.training
    assert again.encode(corpus[2] + "\u4e2d") == any_kind.encode(corpus[2] + "\u4e2d")
    again.save(tmp_path / "second")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_what_transformers_saves_can_be_loaded(any_kind: Tokenizer, tmp_path: Path, theirs: dict[str, Any]) -> None:
    loaded_by_transformers(any_kind, tmp_path, theirs).save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == any_kind.fingerprint


def test_the_fingerprint_tells_apart_what_differs(corpus: list[str]) -> None:
    configs = [
        TokenizerConfig(vocab_size=300),
        TokenizerConfig(vocab_size=301),
        TokenizerConfig(vocab_size=300, pattern="gpt2"),
        TokenizerConfig(vocab_size=301, special_tokens=["<|mask|>"]),
        TokenizerConfig(kind="byte"),
        TokenizerConfig(kind="char"),
    ]
    assert len({train_tokenizer(config, corpus[:3]).fingerprint for config in configs}) == len(configs)


def swap_two_tokens(model: dict[str, Any], _: dict[str, Any]) -> None:
    vocab = model["model"]["vocab"]
    first, second = list(vocab)[40:42]
    vocab[first], vocab[second] = vocab[second], vocab[first]


def drop_a_token(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["model"]["vocab"].popitem()


def move_special(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["added_tokens"][0]["id"] += 10


def rename_special(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["added_tokens"][-1]["content"] = "<|other|>"


def other_pretokens(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["pre_tokenizer"]["type"] = "Whitespace"


def no_model(model: dict[str, Any], _: dict[str, Any]) -> None:
    del model["model"]


def model_is_a_list(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["model"] = []


def vocab_is_null(model: dict[str, Any], _: dict[str, Any]) -> None:
    model["model"]["vocab"] = None


def other_kind(_: dict[str, Any], config: dict[str, Any]) -> None:
    config["tilth"]["kind"] = "words"


def other_fingerprint(_: dict[str, Any], config: dict[str, Any]) -> None:
    config["tilth"]["fingerprint"] = "0" * 64


def later_format(_: dict[str, Any], config: dict[str, Any]) -> None:
    config["tilth"]["format"] = 99


DAMAGES = [swap_two_tokens, drop_a_token, move_special, rename_special, other_pretokens, no_model, model_is_a_list]
DAMAGES += [vocab_is_null, other_kind, other_fingerprint, later_format]


@pytest.mark.parametrize("damage", DAMAGES)
def test_altered_files_are_refused_by_name(any_kind: Tokenizer, damage: Any, tmp_path: Path) -> None:
    any_kind.save(tmp_path)
    paths = [tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"]
    values = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    damage(*values)
    for path, value in zip(paths, values, strict=True):
        path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer(_config)?\.json") as caught:
        load_tokenizer(tmp_path)
    assert caught.value.remedy


def test_an_altered_merge_is_refused(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["model"]["merges"].pop(100)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(IntegrityError, match="merges"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_and_truncated_files_are_refused(any_kind: Tokenizer, name: str, tmp_path: Path) -> None:
    any_kind.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match=name):
        load_tokenizer(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        load_tokenizer(tmp_path)


def test_files_of_two_tokenizers_do_not_mix(corpus: list[str], tmp_path: Path) -> None:
    for size in (300, 310):
        train_tokenizer(TokenizerConfig(vocab_size=size), corpus[:3]).save(tmp_path / str(size))
    (tmp_path / "300" / "tokenizer.json").replace(tmp_path / "310" / "tokenizer.json")
    with pytest.raises(IntegrityError, match="fingerprint"):
        load_tokenizer(tmp_path / "310")
