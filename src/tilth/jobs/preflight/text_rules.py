"""Warnings about the text: documents and splits that will not teach, or not tell, what the recipe means."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from tilth.core.words import plural
from tilth.data.batches.masking import MaskingConfig
from tilth.data.conversations import GIVE_A_TEMPLATE, NEEDS_TEMPLATE
from tilth.data.leaks import exam_files, exam_words
from tilth.data.sources.undecoded import REMEDY
from tilth.jobs.preflight.facts import OF_ALL, Facts
from tilth.jobs.preflight.fault import Fault, Rule
from tilth.tokenizer.thoughts import ALWAYS, EARLIER, UNSAID

_BY_TEMPLATE = {f"encode/{rule}" for rule in ("left_out", "no_prompt", "refused", "rewritten", "template")}
_WITHOUT_ONE = {f"encode/{NEEDS_TEMPLATE}"}
FEW_PREDICTED = 1000
"""Tokens of the validation split: the loss over fewer is uncertain by several hundredths."""
MANY_DUPLICATES = 0.01
"""Of the documents: fewer are what any collection has."""
MANY_UNKNOWN = 0.001
"""Of the tokens."""
MANY_REPLACED = 0.001
"""Of the characters: a misprint in a page of text is what any collection has."""
MANY_SPELLED = 0.01
"""Of the documents: fewer are those that speak of special tokens."""


def _where(facts: Facts, rule: str, count: int) -> str:
    """The first rows of a rule in brackets, of `count` in all."""
    names = facts.named.get(rule, ())
    return f" ({', '.join(names)}{' …' if count > len(names) else ''})" if names else ""


def _longer_rows(facts: Facts) -> str:
    """The line of the recipe that makes room: a checkpoint has no more positions than it was made with, and a model
    that starts from none has those that the recipe says.
    """
    model = facts.recipe.model
    if model.context_length >= (model.max_position_embeddings or 1 << 62):
        if facts.vocabulary.checkpoint is not None:
            return f"model.from: a checkpoint that is made for more than {model.context_length} tokens"
        return f"model.context_length and model.max_position_embeddings: more than {model.context_length}"
    return f"model.context_length: more than {model.context_length}"


def _too_long(facts: Facts) -> Iterator[Fault]:
    rows = facts.rows
    if rows is None:
        return
    change = _longer_rows(facts)
    of = f"of {facts.train.documents:,} documents"
    if rows.truncated:
        yield Fault(
            "truncated",
            f"{rows.truncated:,} {of} are cut at the length of a row{_where(facts, 'too_long', rows.truncated)}",
            f"{change}, or data.packing.too_long: split",
        )
    if rows.split and facts.recipe.train.traits.conversations:  # of plain text a part is as good as the whole
        few = 2 * rows.split < facts.train.documents
        yield Fault(
            "split",
            f"{rows.split:,} {of} are longer than a row and become several, each without what came before"
            + _where(facts, "too_long", rows.split),
            f"{change}{', or data.packing.too_long: drop' if few else ''}",
        )
    if rows.dropped:
        yield Fault(
            "dropped",
            f"{rows.dropped:,} {of} are longer than a row and are left out{_where(facts, 'too_long', rows.dropped)}",
            f"{change}, or too_long: split",
        )


def _masked(facts: Facts) -> Iterator[Fault]:
    if facts.masked and not facts.refusals:
        yield Fault(
            "masked",
            f"documents without a token that is trained, which teach nothing: {facts.masked:,}"
            + _where(facts, "masked" if facts.named.get("masked") else "encode/nothing_trained", facts.masked),
            _to_train_some(facts),
        )


def _to_train_some(facts: Facts) -> str:
    """Without a template the answers of pairs are trained, and nothing but a row's end keeps them from it."""
    if facts.recipe.data.chat is None:
        return f"{_longer_rows(facts)}; or data.packing.too_long: split or drop; or train.objective: causal_lm"
    ways = "data.chat.train_on: all, another data.chat.template, or, where answers are cut off, "
    return ways + _longer_rows(facts)


def _no_answers(facts: Facts) -> Iterator[Fault]:
    train, recipe = facts.train, facts.recipe
    all_trained = bool(recipe.data.chat and recipe.data.chat.train_on == "all")
    answers = recipe.train.traits.conversations and not all_trained
    if not answers or not train.read or int(train.trained.sum()) < train.read:
        return
    yield Fault(
        "no_answers",
        "answers alone bear loss with train.objective sft, and no document has an answer: every token is trained",
        "data.sources: map: {prompt: …, completion: …} (or messages: …) names what is asked and what is answered; or "
        "train.objective: causal_lm, to learn the text as it is",
    )


def _without_end(facts: Facts) -> Iterator[Fault]:
    cut, endless = facts.rows.ends_cut if facts.rows else 0, int(facts.train.endless.sum())
    known = endless if facts.without_end is None else facts.without_end
    if not known or not facts.train.documents:
        return
    of = f"{known:,} of {facts.train.documents:,} documents"
    if facts.recipe.train.traits.conversations or endless:
        said = f"{of} have an answer whose end is missing or not trained: the model would not learn to stop"
        said += f" ({cut:,} are cut off)" if cut else ""
    else:
        said = f"{of} are texts whose end is cut off: the model would not learn to stop"
    written = "data.chat.template: the token that ends an answer belongs into it ({% generation %})"
    roomier = f"data.packing.too_long: split or drop, or {_longer_rows(facts)}"
    yield Fault(
        "without_end",
        said + _where(facts, "without_end", endless),
        "; and ".join([*([written] if endless else []), *([roomier] if cut else [])]),
    )


def _bare(facts: Facts) -> Iterator[Fault]:
    if facts.train.bare:
        yield Fault(
            "bare_answers",
            f"answers that are nothing but the token that ends them: {facts.train.bare:,}; the model would learn to "
            "say nothing",
            "data.chat.template: one that writes what they hold (thoughts, tool calls); or leave these messages out",
        )


def _thoughts(facts: Facts) -> Iterator[Fault]:
    always, earlier = (facts.lost.get(f"encode/{rule}", 0) for rule in (ALWAYS, EARLIER))
    if not always and not earlier:
        return
    told = [
        (always, ALWAYS, "of answers wherever they stand"),
        (earlier, EARLIER, "of answers that messages follow, and not of a row's last one"),
    ]
    said = (f"{what} in {plural(n, 'row')}{_where(facts, f'encode/{rule}', n)}" for n, rule, what in told if n)
    other = "data.chat.template: one that writes them; or, where that is meant, data.sources: rows without thoughts"
    split = "data.sources: a row for each turn, which ends with its answer"
    yield Fault(
        "thoughts_left_out",
        f"the template writes nothing of the thoughts {'; '.join(said)}, {OF_ALL}: the model learns to answer without",
        "; ".join([*([other] if always else []), *([split] if earlier else [])]),
    )


def _contents(facts: Facts) -> Iterator[Fault]:
    if n := facts.lost.get(f"encode/{UNSAID}", 0):
        yield Fault(
            UNSAID,
            "the template writes nothing of what answers say (beside calls of tools, as a rule) in "
            f"{plural(n, 'row')}{_where(facts, f'encode/{UNSAID}', n)}, {OF_ALL}: the model learns to answer without",
            "data.chat.template: one that writes it; or, where that is meant, data.sources: rows without it",
        )


def _unusable(facts: Facts) -> Iterator[Fault]:
    dropped = {rule: n for rule, n in facts.unusable.items() if rule != "encode/nothing_trained"}
    if dropped and facts.recipe.train.traits.conversations:
        yield Fault(
            "unusable",
            f"{OF_ALL}, rows were left out: "
            + ", ".join(f"{rule} {n:,}{_where(facts, rule, n)}" for rule, n in sorted(dropped.items())),
            f"{_mends(dropped)}; `tilth trace {facts.recipe.name} --doc {_first(facts, dropped)}` tells of "
            "one, the ledger names them all",
        )


def _mends(dropped: Iterable[str]) -> str:
    """What to change: the template where it is the cause, else the rows."""
    rules = set(dropped)
    template = "data.chat.template, data.chat.variables: a template that writes these conversations whole"
    told = [
        (GIVE_A_TEMPLATE, rules & _WITHOUT_ONE),
        (template, rules & _BY_TEMPLATE),
        ("data.sources: mend these rows", rules - _BY_TEMPLATE - _WITHOUT_ONE),
    ]
    return ", and ".join(remedy for remedy, of in told if of)


def _first(facts: Facts, rules: Iterable[str]) -> str:
    """A row of the first rule, as it is typed behind an option."""
    return shlex.quote(next((names[0] for rule in sorted(rules) if (names := facts.named.get(rule))), "LOCATOR"))


def _empty(facts: Facts) -> Iterator[Fault]:
    nothing = int(facts.train.empty.sum())
    if nothing:
        yield Fault(
            "empty",
            f"documents that are empty, their end and nothing else: {nothing:,} of {facts.train.documents:,}"
            + _where(facts, "empty", nothing),
            "data.clean: add min_length",
        )


def _duplicates(facts: Facts) -> Iterator[Fault]:
    copies, documents = facts.train.duplicates, facts.train.documents
    if copies > MANY_DUPLICATES * documents:
        yield Fault(
            "duplicates",
            f"{copies:,} of {documents:,} training documents have the same tokens as one before them"
            + _where(facts, "duplicates", copies),
            "data.deduplicate: exact, or near",
        )


def _leaks(facts: Facts) -> Iterator[Fault]:
    leaks = facts.leaks
    if not leaks.items:
        return
    held = facts.recipe.data.decontaminate
    shorter = f"data.decontaminate.shortest: less than {held.shortest} (words), or data.deduplicate: exact"
    yield Fault(
        "leaks",
        f"{leaks.items:,} of {facts.validation.documents:,} validation documents stand in the training text "
        f"({leaks.shared:,} of them are training documents themselves): the validation loss says less than it seems to",
        shorter if held.validation else "data.decontaminate.validation: true",
    )


def _evaluation_files(facts: Facts) -> Iterator[Fault]:
    if amiss := list(exam_files.faults(facts.evaluation_files)):
        without = " and ".join(exam_files.excludes(facts.recipe.data.decontaminate.against, facts.evaluation_files))
        yield Fault(
            "evaluation_files",
            "; ".join(amiss),
            f"{exam_words.PLACE}: mend these files{f', or do without: {without}' if without else ''}; what is not read "
            "of an exam is not kept out of training",
        )


def _unmeasured(facts: Facts) -> Iterator[Fault]:
    train = facts.recipe.train
    if not facts.validation.tokens and not train.early_stopping and train.final != "best":
        yield Fault(
            "no_validation",
            "there is no validation text: nothing will tell learning from learning by heart",
            "data.split.validation: 0.05",
        )


def _small_validation(facts: Facts) -> Iterator[Fault]:
    predicted, about = int(facts.validation.trained.sum()), ""
    if facts.recipe.train.traits.hides_tokens:
        predicted = round(predicted * (facts.recipe.train.masking or MaskingConfig()).mlm_probability)
        about = "about "  # which are hidden is drawn
    if facts.validation.tokens and predicted < FEW_PREDICTED:
        yield Fault(
            "small_validation",
            f"validation predicts {about}{plural(predicted, 'token')} in all: figures of so few are noise",
            "data.split.validation: a larger share, or data.sources: more text",
        )


def _unknown(facts: Facts) -> Iterator[Fault]:
    if facts.unknown > MANY_UNKNOWN * facts.train.tokens:
        yield Fault(
            "unknown_characters",
            f"the tokenizer does not know {plural(facts.unknown, 'character')} of the training text",
            "tokenizer.kind: bpe or byte, or a checkpoint that was made for this script",
        )


def _replaced(facts: Facts) -> Iterator[Fault]:
    found = facts.spelled
    if found.replaced > MANY_REPLACED * found.characters:
        yield Fault(
            "replaced_characters",
            f"{found.replaced:,} of {found.characters:,} characters of the training text are U+FFFD, which stands "
            "where bytes were not UTF-8: the model learns to write it",
            f"data.sources: give the files as UTF-8 ({REMEDY} for Windows-1252 and Latin-1), or invalid_utf8: drop",
        )


def _spelled(facts: Facts) -> Iterator[Fault]:
    found = facts.spelled
    if found.documents <= MANY_SPELLED * found.read:
        return
    stage = f"{{drop_spans: {{rules: [{{name: spelled, pattern: '{_literal(found.names)}'}}]}}}}"
    conversations = facts.recipe.train.traits.conversations
    yield Fault(
        "spelled_tokens",
        f"{found.documents:,} of {found.read:,} documents spell {', '.join(found.names[:4])}: text never becomes a "
        "special token, so the model learns to write it out",
        "data.sources: take it out of the rows; what ends an answer is put there by itself"
        if conversations
        else f"data.clean: add {stage}; what ends a document is put there by itself",
    )


def _literal(names: Sequence[str]) -> str:
    return "|".join(name.replace("|", r"\|") for name in names[:4])


TEXT_RULES: tuple[Rule, ...] = (
    _too_long,
    _masked,
    _no_answers,
    _without_end,
    _bare,
    _contents,
    _thoughts,
    _unusable,
    _empty,
    _duplicates,
    _leaks,
    _evaluation_files,
    _unmeasured,
    _small_validation,
    _unknown,
    _replaced,
    _spelled,
)
