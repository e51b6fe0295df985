"""Facts to errors and warnings: what will ruin the run, and what may. Pure; no rule reads anything.

    judge(facts) -> (errors, warnings)

A rule is a function of the facts that yields a `Fault`, with the line of the recipe to change, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tilth.core.errors import TilthError
from tilth.core.words import plural
from tilth.data.masking import MaskingConfig
from tilth.data.sources.undecoded import REMEDY
from tilth.jobs.preflight.facts import Facts

FEW_PREDICTED = 1000
"""Tokens of the validation split: the loss over fewer is uncertain by several hundredths."""
MANY_DUPLICATES = 0.01
"""Of the documents: fewer are what any collection has."""
FEW_TRAINED = 0.01
"""Of the positions of a step."""
MANY_READINGS = 20
"""Of the same text, where nothing differs from one to the next; texts of a few megabytes gain from several."""
MANY_NOISY_READINGS = 100
"""The same with dropout, or with other tokens hidden each time (masked_lm)."""
MANY_UNKNOWN = 0.001
"""Of the tokens."""
MANY_REPLACED = 0.001
"""Of the characters: a misprint in a page of text is what any collection has."""
MANY_SPELLED = 0.01
"""Of the documents: fewer are those that speak of special tokens."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and what to change. `error`: what a part of the run raised, where it was one."""

    rule: str
    message: str
    remedy: str
    error: TilthError | None = None

    def plain(self) -> dict[str, str]:
        """For JSON."""
        return {"rule": self.rule, "message": self.message, "remedy": self.remedy}


Rule = Callable[[Facts], Iterator[Fault]]


def judge(facts: Facts) -> tuple[list[Fault], list[Fault]]:
    """The errors and the warnings."""
    errors = [fault for rule in ERRORS for fault in rule(facts)]
    return errors, [fault for rule in WARNINGS for fault in rule(facts)]


def _refused(facts: Facts) -> Iterator[Fault]:
    for refusal in facts.refusals:
        yield Fault(refusal.rule, refusal.error.message, refusal.error.remedy, refusal.error)


def _ids(facts: Facts) -> Iterator[Fault]:
    ids = facts.vocabulary
    if ids.model is not None and ids.largest >= ids.model:
        yield Fault(
            "ids",
            f"the text has the id {ids.largest:,}, and the model rows for 0 to {ids.model - 1:,}",
            "prepare the data again, with the tokenizer of this model (model.from)",
        )
    if ids.rowless:
        yield Fault(
            "ids",
            f"the text has {ids.rowless:,} ids of the checkpoint's tokenizer that its model, of {ids.checkpoint:,} "
            "rows, has no row for",
            "model.from: name a checkpoint whose tokenizer and weights are of one revision",
        )


def _needs_validation(facts: Facts) -> Iterator[Fault]:
    train = facts.recipe.train
    asking = [
        *(["train.early_stopping"] if train.early_stopping else []),
        *(["train.final: best"] if train.final == "best" else []),
    ]
    if asking and not facts.validation.tokens:
        yield Fault(
            "no_validation",
            f"{' and '.join(asking)} {'need' if len(asking) > 1 else 'needs'} held-out text, and the validation split "
            "is empty",
            "data.split.validation: hold out a larger share, or remove what needs it",
        )


def _metric(facts: Facts) -> Iterator[Fault]:
    rule, objective = facts.recipe.train.early_stopping, facts.recipe.train.objective
    if rule and rule.metric == "bits_per_byte" and objective != "causal_lm":
        yield Fault(
            "metric",
            f"train.early_stopping.metric is bits_per_byte, which {objective} does not have: only some tokens of a "
            "text are predicted",
            "train.early_stopping.metric: loss",
        )


ERRORS: tuple[Rule, ...] = (_refused, _ids, _needs_validation, _metric)


def _too_long(facts: Facts) -> Iterator[Fault]:
    rows = facts.rows
    if rows is None:
        return
    change = f"model.context_length: more than {facts.recipe.model.context_length}"
    of = f"of {facts.train.documents:,} documents"
    if rows.truncated:
        yield Fault(
            "truncated",
            f"{rows.truncated:,} {of} are cut at the length of a row",
            f"{change}, or data.packing.too_long: split",
        )
    if rows.split and facts.recipe.train.objective == "sft":  # of plain text a part is as good as the whole
        few = 2 * rows.split < facts.train.documents
        yield Fault(
            "split",
            f"{rows.split:,} {of} are longer than a row and become several, each without what came before",
            f"{change}{', or data.packing.too_long: drop' if few else ''}",
        )
    if rows.dropped:
        yield Fault(
            "dropped", f"{rows.dropped:,} {of} are longer than a row and are left out", f"{change}, or too_long: split"
        )


def _masked(facts: Facts) -> Iterator[Fault]:
    if facts.masked and not facts.refusals:
        yield Fault(
            "masked",
            f"documents without a token that is trained, which teach nothing: {facts.masked:,}",
            "data.chat.train_on: all, another data.chat.template, or a longer model.context_length where answers are "
            "cut off",
        )


def _no_answers(facts: Facts) -> Iterator[Fault]:
    train, recipe = facts.train, facts.recipe
    all_trained = bool(recipe.data.chat and recipe.data.chat.train_on == "all")
    if recipe.train.objective != "sft" or all_trained or not train.read or int(train.trained.sum()) < train.read:
        return
    yield Fault(
        "no_answers",
        "answers alone bear loss with train.objective sft, and no document has an answer: every token is trained",
        "data.sources: map: {prompt: …, completion: …} (or messages: …) names what is asked and what is answered; or "
        "train.objective: causal_lm, to learn the text as it is",
    )


def _without_end(facts: Facts) -> Iterator[Fault]:
    if not facts.without_end or not facts.train.documents:
        return
    cut = facts.rows.ends_cut if facts.rows else 0
    written = "data.chat.template: the token that ends an answer belongs into it ({% generation %})"
    yield Fault(
        "without_end",
        f"{facts.without_end:,} of {facts.train.documents:,} documents have an answer whose end is missing or not "
        "trained: the model would not learn to stop" + (f" ({cut:,} are cut off)" if cut else ""),
        "data.packing.too_long: split or drop, or a longer model.context_length" if cut else written,
    )


def _bare(facts: Facts) -> Iterator[Fault]:
    if facts.train.bare:
        yield Fault(
            "bare_answers",
            f"answers that are nothing but the token that ends them: {facts.train.bare:,}; the model would learn to "
            "say nothing",
            "data.chat.template: one that writes what they hold (thoughts, tool calls); or leave these messages out",
        )


def _unusable(facts: Facts) -> Iterator[Fault]:
    dropped = {rule: n for rule, n in facts.unusable.items() if rule != "encode/nothing_trained"}
    if dropped and facts.recipe.train.objective == "sft":
        yield Fault(
            "unusable",
            f"rows were left out: {', '.join(f'{rule} {n:,}' for rule, n in sorted(dropped.items()))}",
            "data.sources: mend these rows; `tilth trace DATA --doc LOCATOR` tells of each, the ledger names them",
        )


def _empty(facts: Facts) -> Iterator[Fault]:
    nothing = int((facts.train.lengths <= 1).sum())
    if nothing:
        yield Fault(
            "empty",
            f"documents that are empty, their end and nothing else: {nothing:,} of {facts.train.documents:,}",
            "data.clean: add min_length",
        )


def _duplicates(facts: Facts) -> Iterator[Fault]:
    copies, documents = facts.train.duplicates, facts.train.documents
    if copies > MANY_DUPLICATES * documents:
        yield Fault(
            "duplicates",
            f"{copies:,} of {documents:,} training documents have the same tokens as one before them",
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


def _unmeasured(facts: Facts) -> Iterator[Fault]:
    train = facts.recipe.train
    if not facts.validation.tokens and not train.early_stopping and train.final != "best":
        yield Fault(
            "no_validation",
            "there is no validation text: nothing will tell learning from learning by heart",
            "data.split.validation: 0.05",
        )


def _small_validation(facts: Facts) -> Iterator[Fault]:
    predicted = int(facts.validation.trained.sum())
    if facts.recipe.train.objective == "masked_lm":
        predicted = round(predicted * (facts.recipe.train.masking or MaskingConfig()).mlm_probability)
    if facts.validation.tokens and predicted < FEW_PREDICTED:
        yield Fault(
            "small_validation",
            f"validation predicts {plural(predicted, 'token')} in all: figures of so few are noise",
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
    conversations = facts.recipe.train.objective == "sft"
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


def _new_tokens(facts: Facts) -> Iterator[Fault]:
    ids, model, adapter = facts.vocabulary, facts.model, facts.recipe.adapter
    if not ids.new_used or model is None or model.embeddings_train:
        return
    whole = facts.recipe.model.tie_word_embeddings
    yield Fault(
        "new_tokens",
        f"{', '.join(ids.new_tokens)} are new to the checkpoint, occur {ids.new_used:,} times, and their embeddings do "
        "not train: they stay at random",
        f"adapter.modules_to_save: [embed_tokens{'' if whole else ', lm_head'}]"
        if adapter
        else "train.freeze: leave embed_tokens and lm_head out",
    )


def _template_tokens(facts: Facts) -> Iterator[Fault]:
    if names := facts.vocabulary.not_special:
        yield Fault(
            "template_tokens",
            f"the chat template writes {', '.join(names)}, which the tokenizer does not have: text takes their place, "
            "or nothing",
            "data.chat.template: another, or tokenizer.special_tokens: add those that it needs",
        )


def _end_differs(facts: Facts) -> Iterator[Fault]:
    ids = facts.vocabulary
    if ids.end_differs and ids.generation_ends is not None:
        yield Fault(
            "end_differs",
            f"texts end with {ids.end}, and the checkpoint's generation_config.json stops at "
            f"{', '.join(map(str, ids.generation_ends))}: other programs will not stop where this model does",
            "model.from: mend eos_token in its tokenizer_config.json, or eos_token_id in generation_config.json",
        )


def _warmup(facts: Facts) -> Iterator[Fault]:
    run = facts.run
    if run and run.steps and run.warmup_steps >= run.steps:
        yield Fault(
            "warmup",
            f"the warm-up of {run.warmup_steps:,} steps is as long as the run of {run.steps:,}, or longer: the rate "
            "never reaches its peak",
            f"train.schedule.warmup_steps: {max(1, run.steps // 10)}",
        )


def _large_batch(facts: Facts) -> Iterator[Fault]:
    rows, run, batch = facts.rows, facts.run, facts.recipe.train.batch_tokens
    if rows and run and isinstance(batch, int) and run.rows_per_step > rows.rows:
        yield Fault(
            "batch",
            f"a step takes {run.rows_per_step:,} rows, and an epoch has {rows.rows:,}: it sees the same text "
            f"{run.rows_per_step / rows.rows:.1f} times",
            f"train.batch_tokens: {rows.positions} or less",
        )


def _by_heart(facts: Facts) -> Iterator[Fault]:
    run, recipe = facts.run, facts.recipe
    if run is None or run.steps is None or run.epochs is None:  # the clock or a metric ends it
        return
    drops = recipe.model.dropout or recipe.model.attention_dropout or (recipe.adapter and recipe.adapter.dropout)
    noisy = drops or recipe.train.objective == "masked_lm"
    most = MANY_NOISY_READINGS if noisy else MANY_READINGS
    if run.epochs <= most:
        return
    fewer = f"train.epochs: {most}" if recipe.train.epochs else f"train.steps: {int(run.steps * most / run.epochs)}"
    early = "" if recipe.train.early_stopping is None else ", unless train.early_stopping ends it before"
    yield Fault(
        "by_heart",
        f"the run reads its training text {run.epochs:,.0f} times: it learns it by heart{early}",
        f"{fewer} or less, or data.sources: more text"
        + ("" if noisy else "; model.dropout: 0.1 lets it be read more often"),
    )


def _few_trained(facts: Facts) -> Iterator[Fault]:
    rows = facts.rows
    if rows and rows.trained < FEW_TRAINED:
        yield Fault(
            "few_trained",
            f"{rows.trained:.2%} of what a step reads is trained",
            "data.chat.train_on: all, or data with shorter prompts or longer answers",
        )


WARNINGS: tuple[Rule, ...] = (
    _too_long,
    _masked,
    _no_answers,
    _without_end,
    _bare,
    _unusable,
    _empty,
    _duplicates,
    _leaks,
    _unmeasured,
    _small_validation,
    _unknown,
    _replaced,
    _spelled,
    _new_tokens,
    _template_tokens,
    _end_differs,
    _warmup,
    _large_batch,
    _by_heart,
    _few_trained,
)
