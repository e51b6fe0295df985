"""Foreign tokenizers: the ids of transformers, text that never becomes a special token, files that come back."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from tests.tokenizer.foreign_kinds import HARD, KINDS, TEXT
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.tokenizer import StreamDecoder, Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    return {name: make(root / name) for name, make in KINDS.items()}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(folder: Path) -> tuple[Tokenizer, Any]:
    """Ours and transformers' of one folder."""
    return load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)


def noise(count: int, seed: int) -> list[str]:
    """Texts of any code points, half of them from what the tokenizers know."""
    draw = random.Random(seed)
    known = "".join(TEXT)

    def character() -> str:
        point = draw.choice([ord(draw.choice(known)), draw.randrange(0x20, 0x2FFF), draw.randrange(0x1F300, 0x1FAFF)])
        return chr(point)

    return ["".join(character() for _ in range(draw.randrange(60))) for _ in range(count)]


def test_ids_are_those_of_transformers(folders: dict[str, Path], kind: str) -> None:
    ours, theirs = pair(folders[kind])
    for text in [*HARD, *noise(200, 1)]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_text_never_becomes_a_special_token(folders: dict[str, Path], kind: str) -> None:
    ours, theirs = pair(folders[kind])
    unknown = ours.token_id("unk_token")
    special = set(ours.special_tokens.values()) - {unknown}
    assert special
    for name in ours.special_tokens:
        for text in (name, f"a{name}b", f" {name} ", name * 3, name.upper(), name.lower()):
            ids = ours.encode(text)
            assert not special & set(ids), text
            split = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if not special & set(split):  # Unigram makes the pieces of what it knows: there tilth differs on purpose
                assert ids == split, text
    marks = "\ufdd5\ufde0\ufde0\ufde0\ufde0 \ufdd60\ufdd6 \ufdd70\ufdd7"
    assert not special & set(ours.encode(marks))
    assert ours.encode(marks) == ours.encode(marks.translate(dict.fromkeys(range(0xFDD0, 0xFDF0), "\ufffd")))


def test_a_unigram_knows_its_control_tokens_as_pieces(folders: dict[str, Path]) -> None:
    """The trap that renaming is for: transformers gives the id of </s> for a text that spells it."""
    ours, theirs = pair(folders["unigram"])
    assert ours.end_of_text in theirs("a</s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ours.end_of_text not in ours.encode("a</s>")


def test_documents_are_encoded_together(folders: dict[str, Path], kind: str) -> None:
    ours = load_tokenizer(folders[kind])
    texts = [*HARD, "\ud800 lone", f"spells {list(ours.special_tokens)[-1]}"]
    begin = ours.opening
    expected = [part for text in texts for part in (*begin, *ours.encode(text), ours.end_of_text)]
    found = ours.encode_documents(texts)
    assert found.dtype == np.uint32
    assert found.tolist() == expected
    assert ours.encode_documents([]).tolist() == []
    assert ours.encode(b"a\xff") == ours.encode("a\ufffd")


def test_decoding_is_that_of_transformers(folders: dict[str, Path], kind: str) -> None:
    ours, theirs = pair(folders[kind])
    for text in [*HARD, *noise(100, 2)]:
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids), text
        framed = [*ours.opening, *ids, *ours.closing]
        assert ours.decode(framed, skip_special=True) == theirs.decode(framed, skip_special_tokens=True), text


def test_streamed_text_is_the_whole_text(folders: dict[str, Path], kind: str) -> None:
    ours = load_tokenizer(folders[kind])
    draw = random.Random(3)
    for text in [*HARD, *noise(50, 4)]:
        for ids in ([*ours.opening, *ours.encode(text)], [draw.randrange(ours.vocab_size) for _ in range(40)]):
            for skip in (True, False):
                decoder = StreamDecoder(ours, skip_special=skip)
                streamed = "".join([*map(decoder.push, ids), decoder.flush()])
                assert streamed == ours.decode(ids, skip_special=skip)


def test_a_continuation_keeps_its_space(folders: dict[str, Path]) -> None:
    for name in ("llama2", "mistral", "unigram", "wordpiece"):
        ours = load_tokenizer(folders[name])
        ids = ours.encode("the fox")
        begins, goes_on = StreamDecoder(ours), StreamDecoder(ours, begins=False)
        assert "".join([*map(begins.push, ids)]) == "the fox"
        assert "".join([*map(goes_on.push, ids)]) == " the fox"


def test_jobs_and_frames(folders: dict[str, Path]) -> None:
    loaded = {name: load_tokenizer(folder) for name, folder in folders.items()}
    bert = loaded["wordpiece"]
    assert bert.end_of_text == bert.special_tokens["[SEP]"]
    assert bert.token_id("mask_token") == bert.special_tokens["[MASK]"]
    assert (bert.opening, bert.closing) == ([bert.token_id("cls_token")], [bert.token_id("sep_token")])
    assert loaded["gpt2"].opening == [] and loaded["gpt2"].token_id("bos_token") is None
    assert loaded["llama3"].opening == [loaded["llama3"].token_id("bos_token")]
    assert loaded["unigram"].closing == [loaded["unigram"].end_of_text]
    for name, ours in loaded.items():
        theirs = transformers.AutoTokenizer.from_pretrained(folders[name])
        body = ours.encode("the fox")
        assert theirs("the fox")["input_ids"] == [*ours.opening, *body, *ours.closing]
        assert ours.vocab_size == len(theirs)


def test_tokenizer_json_decides_about_bos(tmp_path: Path) -> None:
    folder = KINDS["llama2"](tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "add_bos_token": False}))
    ours, theirs = pair(folder)
    assert [*ours.opening, *ours.encode("fox")] == theirs("fox")["input_ids"]
    assert ours.opening == [ours.token_id("bos_token")]


def test_what_was_saved_is_the_same(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    ours = load_tokenizer(folders[kind])
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == ours.fingerprint
    assert again.named_tokens == ours.named_tokens
    assert (tmp_path / "tokenizer.json").read_bytes() == (folders[kind] / "tokenizer.json").read_bytes()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert all(again.encode(text) == theirs(text, add_special_tokens=False)["input_ids"] for text in HARD)


def test_fingerprints_tell_tokenizers_apart(folders: dict[str, Path]) -> None:
    loaded = [load_tokenizer(folder).fingerprint for folder in folders.values()]
    assert len(set(loaded)) == len(loaded)


def test_further_special_tokens(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    ours = load_tokenizer(folders[kind])
    known = next(iter(ours.special_tokens))
    more = ours.with_special_tokens(["<|new|>", known, "<|other|>"])
    assert more.vocab_size == ours.vocab_size + 2
    assert [more.special_tokens[name] for name in ("<|new|>", "<|other|>")] == [ours.vocab_size, ours.vocab_size + 1]
    assert more.special_tokens[known] == ours.special_tokens[known]
    assert more.fingerprint != ours.fingerprint
    assert all(more.encode(text) == ours.encode(text) for text in [*HARD, "a <|new|> b"])
    more.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.convert_tokens_to_ids("<|other|>") == more.special_tokens["<|other|>"]
    assert load_tokenizer(tmp_path).special_tokens == more.special_tokens


def test_tilths_own_take_further_special_tokens() -> None:
    from tilth.tokenizer import TokenizerConfig, train_tokenizer

    configs = (
        TokenizerConfig(kind="char", special_tokens=["<|mask|>"]),
        TokenizerConfig(kind="byte"),
        TokenizerConfig(vocab_size=300, special_tokens=["<|mask|>"]),
    )
    for config in configs:
        ours = train_tokenizer(config, TEXT)
        more = ours.with_special_tokens(["<|im_start|>", "<|endoftext|>"])
        assert more.special_tokens == {**ours.special_tokens, "<|im_start|>": ours.vocab_size}
        assert more.encode(TEXT[0]) == ours.encode(TEXT[0])


def changed(folder: Path, **parts: Any) -> Path:
    """The folder with parts of its tokenizer.json replaced."""
    model = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**model, **parts}))
    return folder


def test_gaps_in_the_ids(tmp_path: Path) -> None:
    """Ids that no token has: added tokens keep the ids that transformers gives them, or are refused."""
    folder = KINDS["gpt2"](tmp_path / "a")
    model = json.loads((folder / "tokenizer.json").read_text())
    vocab, merges = model["model"]["vocab"], model["model"]["merges"]
    gap = max(vocab.values()) - 1
    lost = next(token for token, place in vocab.items() if place == gap)
    kept = {token: place for token, place in vocab.items() if token != lost}
    pairs = [pair for pair in merges if lost not in ("".join(pair), *pair)]
    changed(folder, model={**model["model"], "vocab": kept, "merges": pairs}, added_tokens=model["added_tokens"][:1])
    with pytest.raises(DataError, match="same id"):  # the engine counts the vocabulary, and gives <|im_end|> a taken id
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    ours, theirs = pair(folder)
    for text in [*HARD, f"the fox {lost}"]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.vocab_size == gap + 2
    assert ours.decode([gap]) == ""

    added = model["added_tokens"]
    with pytest.raises(DataError, match="listed with id"):
        load_tokenizer(changed(folder, added_tokens=[{**added[0], "id": 0}, {**added[1], "id": 9000}]))


def test_two_tokens_with_one_id_are_refused(tmp_path: Path) -> None:
    folder = KINDS["gpt2"](tmp_path / "a")
    model = json.loads((folder / "tokenizer.json").read_text())
    model["model"]["vocab"]["!"] = model["model"]["vocab"]["?"]
    with pytest.raises(DataError, match="same id"):
        load_tokenizer(changed(folder, model=model["model"]))


def test_an_end_that_ordinary_text_becomes_is_refused(tmp_path: Path) -> None:
    folder = KINDS["gpt2"](tmp_path / "a")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "!"}))
    with pytest.raises(DataError, match="ordinary text becomes '!'"):
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "pad_token": "!"}))
    ours, theirs = pair(folder)
    assert "!" not in ours.special_tokens  # a character that has a second job is still a character
    assert ours.encode("a!") == theirs("a!", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", "{", "is damaged"),
        ("tokenizer.json", "[]", "no JSON object"),
        ("tokenizer.json", "{}", "no model with a vocabulary"),
        ("tokenizer.json", '{"model": {"vocab": 3}}', "cannot be used"),
        ("tokenizer_config.json", "{", "is damaged"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 3}}', "cannot be used"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    folder = KINDS["gpt2"](tmp_path / "a")
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=says) as raised:
        load_tokenizer(folder)
    assert str(folder) in raised.value.message


def test_no_end_of_text_is_refused(tmp_path: Path) -> None:
    folder = KINDS["gpt2"](tmp_path / "a")
    (folder / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(folder).named_tokens["eos_token"] == "<|endoftext|>"  # GPT-2's own files say no more
    model = json.loads((folder / "tokenizer.json").read_text())
    text = json.dumps(model).replace("<|endoftext|>", "<|nothing|>")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(DataError, match="no token ends a text"):
        load_tokenizer(folder)


def test_an_unknown_decoder_is_named(tmp_path: Path) -> None:
    folder = changed(
        KINDS["gpt2"](tmp_path / "a"),
        decoder={"type": "CTC", "pad_token": "x", "word_delimiter_token": "|", "cleanup": True},
    )
    with pytest.raises(DataError, match="CTC"):
        load_tokenizer(folder)


def test_the_end_is_found_by_the_models_config(tmp_path: Path) -> None:
    folder = KINDS["llama3"](tmp_path / "a")
    ours = load_tokenizer(folder)
    eot = ours.special_tokens["<|eot_id|>"]
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": [eot, 7]}))
    found = load_tokenizer(folder)
    assert found.end_of_text == eot
    found.save(tmp_path / "b")
    assert load_tokenizer(tmp_path / "b").end_of_text == eot  # config.json is not there any more


def test_tilths_own_without_its_mark_is_one_of_hugging_faces(any_kind: Tokenizer, tmp_path: Path) -> None:
    any_kind.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["tilth"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(tmp_path)
    assert ours.kind == "foreign" and ours.special_tokens == any_kind.special_tokens
    for text in [*HARD, "<|endoftext|><|mask|>"]:
        assert ours.encode(text) == any_kind.encode(text)
        assert ours.decode(ours.encode(text)) == any_kind.decode(any_kind.encode(text))


def test_tilths_own_is_not_taken_for_foreign(tmp_path: Path) -> None:
    from tilth.tokenizer import TokenizerConfig, train_tokenizer

    train_tokenizer(TokenizerConfig(kind="byte"), []).save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "tilth"}')
    with pytest.raises(IntegrityError, match="missing"):
        load_tokenizer(tmp_path)


def test_older_files_are_converted(tmp_path: Path) -> None:
    """vocab.txt alone, as BERT's first checkpoints have it, and vocab.json with merges.txt, as GPT-2's."""
    bert = json.loads((KINDS["wordpiece"](tmp_path / "a") / "tokenizer.json").read_text())["model"]["vocab"]
    old = tmp_path / "bert"
    old.mkdir()
    (old / "vocab.txt").write_text("\n".join(sorted(bert, key=bert.get)) + "\n")
    (old / "config.json").write_text('{"model_type": "bert"}')
    ours, theirs = pair(old)
    assert all(ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"] for text in HARD)
    ours.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").encode("the fox") == ours.encode("the fox")

    model = json.loads((KINDS["gpt2"](tmp_path / "b") / "tokenizer.json").read_text())["model"]
    old = tmp_path / "gpt2"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(model["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])) + "\n")
    (old / "config.json").write_text('{"model_type": "gpt2"}')
    ours, theirs = pair(old)
    assert all(ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"] for text in HARD)
    assert ours.end_of_text == theirs.eos_token_id


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS["gpt2"](tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "vocab.txt").write_text("a\n")
    (tmp_path / "b" / "config.json").write_text('{"model_type": "bert"}')
    find = importlib.util.find_spec
    for folder, library in (("a", "tokenizers"), ("b", "transformers")):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda name, gone=library: None if name == gone else find(name))
            with pytest.raises(RecipeError, match=f"{library}.* not installed") as raised:
                load_tokenizer(tmp_path / folder)
            assert raised.value.remedy == "pip install 'tilth[transformers]'"


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match=r"has no tokenizer\.json") as raised:
        load_tokenizer(tmp_path)
    assert "copy" in raised.value.remedy
