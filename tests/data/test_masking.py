"""Masked batches: the shares of transformers' collator, whole words, the same draws whenever a sample comes again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.data.helpers import make_stream
from tests.tokenizer.foreign_kinds import KINDS
from tilth.core.config import parse
from tilth.core.errors import CheckpointError, RecipeError, TilthError
from tilth.core.random import draws
from tilth.data.batches.batch import IGNORE, Batch
from tilth.data.batches.loader import Loader
from tilth.data.batches.masking import Masker, MaskingConfig, Words, make_masker, masked_pass, padded_windows
from tilth.data.batches.packing import PackingConfig
from tilth.data.batches.sampling import make_sampler
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.tokenizer.foreign import load_foreign

V, MASK = 100, 99
SPECIAL = np.arange(V) >= 97


def masker(seed: int = 3, words: Words | None = None, **options: Any) -> Masker:
    config = parse(MaskingConfig, {"whole_word_mask": words is not None, **options})
    return Masker(config, seed, MASK, SPECIAL, words)


def batch_of(rows: int, length: int) -> Batch:
    """Ordinary tokens with a special one at both ends of each row."""
    ids = np.random.default_rng(1).integers(0, 97, (rows, length))
    ids[:, 0], ids[:, -1] = 97, 98
    return Batch(ids, ids, np.arange(rows), causal=False)


def shares(inputs: Any, labels: Any, original: Any) -> list[float]:
    """Of ordinary tokens those chosen; of these masked, changed, kept."""
    chosen = labels != IGNORE
    n = chosen.sum()
    masked, kept = chosen & (inputs == MASK), chosen & (inputs == original)
    counts = (masked.sum(), n - masked.sum() - kept.sum(), kept.sum())
    return [float(n / (original < 97).sum()), *(float(count / n) for count in counts)]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [0.15, 0.4])
def test_the_shares_are_those_of_transformers_collator(chosen: float) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    model = models.WordLevel({f"t{n}": n for n in range(97)} | {"[A]": 97, "[B]": 98, "[M]": 99}, unk_token="t0")
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), cls_token="[A]", sep_token="[B]", mask_token="[M]", pad_token="[B]"
    )
    batch = batch_of(800, 128)
    collator = DataCollatorForLanguageModeling(theirs, mlm_probability=chosen, seed=0)
    made = collator([{"input_ids": row, "special_tokens_mask": SPECIAL[row].astype(int)} for row in batch.input_ids])
    reference = shares(made["input_ids"].numpy(), made["labels"].numpy(), batch.input_ids)
    ours = masker(mlm_probability=chosen)(batch)
    assert shares(ours.input_ids, ours.labels, batch.input_ids) == pytest.approx(reference, abs=0.02)
    assert shares(ours.input_ids, ours.labels, batch.input_ids)[0] == pytest.approx(chosen, abs=0.005)
    assert isinstance(made["labels"], torch.Tensor)


def test_only_what_was_chosen_is_changed_and_special_tokens_never() -> None:
    batch = batch_of(300, 64)
    made = masker()(batch)
    chosen = made.labels != IGNORE
    assert np.array_equal(made.labels[chosen], batch.input_ids[chosen])
    assert np.array_equal(made.input_ids[~chosen], batch.input_ids[~chosen])
    assert not chosen[SPECIAL[batch.input_ids]].any()
    replaced = made.input_ids[chosen & (made.input_ids != MASK)]
    assert not SPECIAL[replaced].any() and len(set(replaced.tolist())) > 80, "another token is an ordinary one, any"
    assert batch.input_ids is batch.labels and not (batch.input_ids == MASK).any(), "the batch itself is as it was"


def test_every_row_has_a_label_and_only_where_it_may() -> None:
    batch = batch_of(500, 6)
    made = masker(mlm_probability=0.001)(batch)
    assert ((made.labels != IGNORE).sum(axis=1) == 1).all()
    allowed = np.where(np.arange(6) == 2, batch.labels, IGNORE)
    only = masker()(Batch(batch.input_ids, allowed, batch.sample_ids, causal=False))
    assert ((only.labels != IGNORE) == (np.arange(6) == 2)).all(), "what is not trained or padding is not chosen"
    nothing = np.full_like(batch.labels, IGNORE)
    assert masker()(Batch(batch.input_ids, nothing, batch.sample_ids, causal=False)).valid_labels == 0


def test_a_draw_depends_on_seed_and_sample_alone() -> None:
    batch = batch_of(40, 64)
    whole = masker()(batch)
    parts = [masker()(batch.rows(first, first + 8)) for first in (0, 8, 16, 24, 32)]
    assert np.array_equal(whole.input_ids, np.concatenate([part.input_ids for part in parts]))
    assert np.array_equal(whole.labels, np.concatenate([part.labels for part in parts]))
    later = Batch(batch.input_ids, batch.labels, batch.sample_ids + 40, causal=False)
    for other in (masker()(later), masker(seed=4)(batch)):
        assert not np.array_equal(whole.labels, other.labels)
    fixed = [masker(seed)(batch, evaluation=True).input_ids for seed in (3, 4)]
    assert np.array_equal(*fixed)


def test_draws_are_splitmix64() -> None:
    # The first numbers of the reference implementation (Vigna, splitmix64.c) from the state 1234567.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert draws([1234567], 5).tolist() == [known]


def test_whole_words_are_chosen_together() -> None:
    tokens = [b"the", b" ", b"ing", b" walk", b"s", b"\n", b"(", b"\xc3\xa9", b"9", b" re"]
    words = Words.of_bytes(tokens)
    #       the walk+s \n the ( the 9 re
    row = np.array([[0, 3, 4, 5, 0, 6, 0, 8, 9, 7]])
    assert words.starts(row, np.zeros_like(row, bool)).tolist() == [[0, 1, 1, 3, 4, 5, 5, 5, 8, 8]]
    apart = row == 4
    assert words.starts(row, apart).tolist() == [[0, 1, 2, 3, 4, 5, 5, 5, 8, 8]]


@pytest.mark.parametrize("probability", [0.15, 0.002])
def test_a_word_is_hidden_whole_and_the_share_is_that_of_tokens(probability: float) -> None:
    continues = np.arange(V) % 3 > 0
    words = Words(continues, np.zeros(V, bool))
    batch = batch_of(600, 128)
    documents = np.repeat(np.arange(1, 5, dtype=np.int32), 32)[None].repeat(600, axis=0)
    batch = Batch(batch.input_ids, batch.labels, batch.sample_ids, documents, batch.input_ids, causal=False)
    chosen = masker(words=words, mlm_probability=probability)(batch).labels != IGNORE
    begins = ~continues[batch.input_ids] | SPECIAL[batch.input_ids]
    begins[:, [0, 1, 32, 64, 96]] = True  # the row, what follows its special token, and each document
    word = begins.cumsum(axis=1) + 1000 * np.arange(600)[:, None]
    ordinary = ~SPECIAL[batch.input_ids]
    for number in np.unique(word[chosen])[:500].tolist():
        assert chosen[(word == number) & ordinary].all()
    assert len(np.unique(word[chosen])) < chosen.sum() / 1.5
    if probability == 0.15:
        assert chosen.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.01)
    else:
        assert chosen.any(axis=1).all()


def sampler_of(tmp_path: Path, packed: bool) -> Any:
    stream = make_stream(tmp_path, [[20, 7, 40], [11, 3, 15]], 97)
    packing = PackingConfig(too_long="split") if packed else None
    return make_sampler(stream, 16, 3, ahead=0, isolate=True, packing=packing)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
def test_going_on_and_other_world_sizes_hide_the_same(tmp_path: Path, packed: bool, world_size: int) -> None:
    sampler = sampler_of(tmp_path, packed)
    alone = Loader(sampler, 4, masker=masker(), fingerprint="d")
    ranks = [Loader(sampler, 4, masker=masker(), rank=r, world_size=world_size) for r in range(world_size)]
    states, batches = [], []
    for _ in range(6):  # over the end of an epoch
        states.append(json.loads(json.dumps(alone.state_dict())))
        batches.append(alone.next())
        parts = [rank.next() for rank in ranks]
        for name in ("input_ids", "labels"):
            assert np.array_equal(getattr(batches[-1], name), np.concatenate([getattr(p, name) for p in parts]))
    for reader in (alone, *ranks):
        reader.close()
    for state, batch in zip(states, batches, strict=True):
        again = Loader(sampler, 4, masker=masker(), fingerprint="d")
        again.load_state_dict(state)
        made = again.next()
        again.close()
        assert np.array_equal(made.input_ids, batch.input_ids) and np.array_equal(made.labels, batch.labels)
    assert all(not batch.causal for batch in batches)


def test_another_masking_is_refused(tmp_path: Path) -> None:
    sampler = sampler_of(tmp_path, packed=False)
    state = Loader(sampler, 4, masker=masker(), fingerprint="d").state_dict()
    causal = Loader(make_sampler(sampler.stream, 16, 3), 4, fingerprint="d")
    for other in (Loader(sampler, 4, masker=masker(mlm_probability=0.3), fingerprint="d"), causal):
        with pytest.raises(CheckpointError, match="masking"):
            other.load_state_dict(state)


@pytest.mark.parametrize("isolate", [False, True])
def test_an_evaluation_covers_every_token_once_and_hides_the_same_each_time(tmp_path: Path, isolate: bool) -> None:
    stream = make_stream(tmp_path, [[20, 7, 40], [11, 3, 15]], 97)
    everything = masker(mlm_probability=1.0, mask_replace_prob=1.0, random_replace_prob=0.0)
    batches = list(masked_pass(stream, 10, 4, everything, isolate))
    labels = np.concatenate([batch.labels.ravel() for batch in batches])
    assert labels[labels != IGNORE].tolist() == list(range(96))
    last = batches[-1]
    if isolate:
        assert last.doc_ids is not None and (last.doc_ids[-1, 6:] == 0).all() and (last.labels[-1, 6:] == IGNORE).all()
    else:
        assert last.input_ids.shape == (1, 6), "as long as what is there"
        assert all(batch.doc_ids is None and batch.positions is None for batch in batches), "nothing to keep apart"
    runs = [
        np.concatenate([b.input_ids.ravel() for b in masked_pass(stream, 10, rows, masker(rows), isolate)])[:96]
        for rows in (3, 4)
    ]
    assert np.array_equal(*runs), "whatever the seed, and how many rows at once"
    numbers = np.concatenate([batch.sample_ids for batch in batches])
    padded = masker()(padded_windows(stream, 10, numbers, isolate), evaluation=True)
    assert np.array_equal(padded.input_ids.ravel()[:96], runs[0]), "a row that is cut hides what the whole one does"


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "gpt2", "mistral"])
def test_words_of_a_checkpoints_tokenizer_are_those_of_tokenizers(kind: str, tmp_path: Path) -> None:
    text = "the quick brown fox jumps over lazy dogs said reasons and squared prints functions then"
    tokenizer = load_foreign(KINDS[kind](tmp_path)).with_special_tokens(["<|mask|>"])
    encoded = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text, add_special_tokens=False)
    if kind == "mistral":  # one pretoken for all: its words are where the pieces say
        owner = np.cumsum([token.startswith("▁") for token in encoded.tokens])
    else:
        owner = np.array(encoded.word_ids)
    assert len(np.unique(owner)) == len(text.split()) < len(owner), "words of several tokens"
    ids = np.tile(np.array(encoded.ids, np.int64), (200, 1))
    config = parse(MaskingConfig, {"whole_word_mask": True, "mlm_probability": 0.3})
    chosen = make_masker(config, tokenizer, 1)(Batch(ids, ids, np.arange(200), causal=False)).labels != IGNORE
    spelled = np.array([bool(tokenizer.decode_bytes([token]).strip()) for token in encoded.ids])  # else a space alone
    for word in np.unique(owner):
        own = chosen[:, (owner == word) & spelled]
        assert own.any() and (own.all(axis=1) == own.any(axis=1)).all(), "hidden in part"
    hidden = chosen.sum(axis=1)
    assert 0.2 < chosen.mean() < 0.4 and hidden.max() < len(owner), "words do not run into one another"


def test_a_tokenizer_tells_its_words_and_its_mask() -> None:
    text = "the walking man walks (slowly) walking\nwalking man, the man walks slowly " * 4
    config = TokenizerConfig(kind="bpe", vocab_size=275, special_tokens=["<|mask|>"])
    tokenizer = train_tokenizer(config, [text])
    whole = make_masker(parse(MaskingConfig, {"whole_word_mask": True, "mlm_probability": 0.3}), tokenizer, 1)
    ids = np.tile(tokenizer.encode_array(text).astype(np.int64), (20, 1))
    chosen = whole(Batch(ids, ids, np.arange(20), causal=False)).labels != IGNORE
    assert whole.mask_token == tokenizer.special_tokens["<|mask|>"]
    owner = np.repeat(np.arange(ids.shape[1]), [len(tokenizer.token_bytes(token)) for token in ids[0].tolist()])
    words = [np.unique(owner[slice(*found.span())]) for found in re.finditer("[a-z]+", text)]
    assert max(map(len, words)) > 1 and 0.2 < chosen.mean() < 0.4
    for own in words:
        assert (chosen[:, own].all(axis=1) == chosen[:, own].any(axis=1)).all(), "no word is hidden in part"
    plain = train_tokenizer(TokenizerConfig(kind="byte"), [])
    with pytest.raises(RecipeError, match="needs a mask token") as caught:
        make_masker(MaskingConfig(), plain, 1)
    assert "<|mask|>" in caught.value.remedy


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(TilthError, match="are more than 1"):
        parse(MaskingConfig, {"mask_replace_prob": 0.8, "random_replace_prob": 0.3})
