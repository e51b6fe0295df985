"""Text that a run was not made of, as tokens for its model: read, cleaned and encoded as that model's text was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.core.words import plural, some
from tilth.data.chats import ChatDocuments
from tilth.data.conversations import Encoded, Encoder, Refusal
from tilth.data.document import Document, Outcome, Verdict
from tilth.data.naming import passed_over
from tilth.data.shards import EncodedDocuments, Shard, TokenStream, encoded_document, write_shard
from tilth.data.sources import SourceConfig, list_inputs, losses, read_input
from tilth.data.sources.inputs import Lost
from tilth.data.sources.unusable import Unusable
from tilth.data.sources.unusable import notes as notes_of_rows
from tilth.data.stages import Outcomes, build_stages, clean, limits
from tilth.generate.text import check_ids
from tilth.jobs.load import LanguageModel
from tilth.jobs.runs import traits_of
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.chat_config import ChatConfig
from tilth.tokenizer.hf_format import UNKNOWN

_NAMED = 3  # files that cannot be used


def encode_files(
    language_model: LanguageModel, habits: Mapping[str, Any], source: SourceConfig, scratch: Path
) -> tuple[TokenStream, list[str]]:
    """The text of a file, folder or glob as tokens in a scratch folder, and what was not taken as it was.

    Args:
        habits: how the model's own text was cleaned and encoded (`reading_habits`).
    """
    try:
        return _encode_files(language_model, habits, source, scratch)
    except DataError as error:
        remedy = _typed(error.remedy)
        if remedy != error.remedy:
            raise error.with_remedy(remedy or "mend the file, or take it out") from None
        raise


def _typed(remedy: str) -> str:
    """A remedy that is written for a recipe, as what can be typed here."""
    return _with_options(losses.without_limit(remedy))


def _with_options(said: str) -> str:
    """What names keys of a source, with the options that stand for them here; the other keys are told as such."""
    said = re.sub(r"`(format|field|separator):", r"`--\1", said)
    said = said.replace("`path:", "`--data")
    said = re.sub(r"""\{path: ("[^"]*"|'[^']*'), format: text\}""", r"--data \1 --format text", said)
    others = list(dict.fromkeys(re.findall(r"`(template|map|records|extract|exclude):", said)))
    if not others:
        return said
    keys = " and ".join(f"`{key}:`" for key in others)
    return f"{said}; {keys} cannot be typed here: put the file under `data.sources` of a recipe"


def _encode_files(
    language_model: LanguageModel, habits: Mapping[str, Any], source: SourceConfig, scratch: Path
) -> tuple[TokenStream, list[str]]:
    tokenizer, stages, encoder = (
        language_model.tokenizer,
        build_stages(habits["clean"]),
        _encoder(language_model, habits),
    )
    pattern = source.path
    listing = list_inputs(source, Path(), scratch)
    ledger, lost, unusable = list(listing.skipped), dict[str, Lost](), Unusable()

    def read() -> Iterator[Outcome]:
        for item in listing:
            for outcome in read_input(item, source, among_many=len(listing) > 1, unusable=unusable):
                if outcome.loses:
                    said = outcome.verdicts[-1].detail
                    lost.setdefault(item.locator, Lost(said, outcome.remedy, item.locator))
                yield outcome

    def documents() -> Iterator[EncodedDocuments]:
        for outcome in read():
            ledger.extend(outcome.verdicts)
            left = clean(outcome.document, stages) if outcome.document is not None else Outcomes(())
            ledger.extend(left.verdicts)
            for document in left.documents:
                one = _encoded(tokenizer, encoder, document)
                if isinstance(one, Refusal):
                    ledger.append(Verdict(document.doc_id, "encode", one.rule, "dropped", one.value, one.detail))
                else:
                    for rule, *more in one.lost:
                        ledger.append(Verdict(document.doc_id, "encode", rule, "changed", *more))
                    check_ids(language_model.model, one.ids, language_model.called)
                    size = len(document.text.encode())
                    yield encoded_document(document.doc_id, one.ids, size, one.trained if encoder else None)

    write_shard(scratch / "shard", documents(), tokenizer.vocab_size, tokenizer.fingerprint)
    stream = TokenStream([Shard(scratch / "shard")])
    told = losses.judge(source, len(listing), len(lost), list(lost.values())[:_NAMED], in_recipe=False)
    of_rows = unusable.plain()
    counts = Counter((verdict.verdict, f"{verdict.stage}/{verdict.rule}") for verdict in ledger)
    names = passed_over(listing.skipped, source.source_name)
    notes = [
        f"{pattern}: {verdict} by {rule}: {n}{f' ({some(names[rule], n)})' if rule in names else ''}"
        for (verdict, rule), n in sorted(counts.items())
    ]
    told_of_rows = [_with_options(said) for said in notes_of_rows(source.source_name, [of_rows])]
    if not stream.tokens:
        why = [*([] if of_rows["remedy"] else told_of_rows), *notes]  # a remedy says the same of rows
        said = f" ({'; '.join(note.removeprefix(f'{pattern}: ') for note in why)})" if why else ""
        ruled = limits([rule for verdict, rule in counts if verdict == "dropped"], stages)
        passes = f"name a file whose text passes the data.clean of the run: {', '.join(ruled)}" if ruled else ""
        remedies = filter(None, [of_rows["remedy"], passes])
        raise DataError(
            f"{pattern} holds no text to evaluate{said}", "; ".join(remedies) or "name a file with text in it"
        )
    unknown = tokenizer.special_tokens.get(UNKNOWN, -1)
    unseen = sum(int((shard.read(0, shard.tokens) == unknown).sum()) for shard in stream.shards)
    unknown_too = [f"{pattern}: {plural(unseen, 'character')} that the tokenizer does not know"] if unseen else []
    return stream, [*filter(None, [told]), *told_of_rows, *notes, *unknown_too]


def _encoder(language_model: LanguageModel, habits: Mapping[str, Any]) -> Encoder | None:
    """How conversations become tokens; None where all is text."""
    if not traits_of(habits).conversations:
        return None
    said, chat = habits.get("chat"), language_model.chat
    if said is None or chat is None:
        return ChatDocuments(None, None)
    return ChatDocuments(parse(ChatConfig, said, "chat"), chat.template)


def _encoded(tokenizer: Tokenizer, encoder: Encoder | None, document: Document) -> Encoded | Refusal:
    if encoder is not None:
        return encoder(tokenizer, [document])[0]
    ids = tokenizer.encode_documents([document.text])
    return Encoded(ids, np.ones(len(ids), np.bool_))
