"""Warnings about the run: what its vocabulary, its length and its batch make of the text."""

from __future__ import annotations

from collections.abc import Iterator

from tilth.core.words import plural
from tilth.data.batches.masking import MaskingConfig
from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault, Rule
from tilth.jobs.preflight.rates import high_rate
from tilth.jobs.preflight.run import RowFacts
from tilth.training.config import TrainConfig

FEW_TRAINED = 0.01
"""Of the positions of a step."""
FEW_LEFT = 0.01
"""Of the model's numbers, that `train.freeze` leaves to train."""
MANY_READINGS = 20
"""Of the same text, where nothing differs from one to the next; texts of a few megabytes gain from several."""
MANY_NOISY_READINGS = 100
"""The same with dropout, or with other tokens hidden each time (masked_lm)."""

MUCH_SLOWER = 1.5
"""A product in half precision, as a multiple of its time in fp32."""


def _new_tokens(facts: Facts) -> Iterator[Fault]:
    ids, model, adapter = facts.vocabulary, facts.model, facts.recipe.adapter
    if not ids.new_used or model is None or model.embeddings_train:
        return
    yield Fault(
        "new_tokens",
        f"{', '.join(ids.new_tokens)} are new to the checkpoint, occur {ids.new_used:,} times, and their embeddings do "
        "not train: they stay at random",
        f"adapter.modules_to_save: [{', '.join(model.embeddings)}]"
        if adapter
        else f"train.freeze: leave {' and '.join(model.embeddings)} out",
    )


def _random_rows(facts: Facts) -> Iterator[Fault]:
    ids = facts.vocabulary
    if ids.lacking and ids.checkpoint is not None and not ids.rowless:  # else it is an error
        yield Fault(
            "random_rows",
            f"the checkpoint's tokenizer has {plural(ids.checkpoint + ids.lacking, 'id')}, and its model "
            f"{plural(ids.checkpoint, 'row')}: {plural(ids.lacking, 'row')} are made at random",
            "model.from: a checkpoint whose tokenizer and weights are of one revision, unless these ids are never used",
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


def _untried(facts: Facts) -> Iterator[Fault]:
    if facts.model is not None and facts.model.untried:
        yield Fault(
            "untried",
            "no small model of this class could be made to try whether it keeps the documents of a row apart: only its "
            "weights will tell, when training begins",
            "model.from: another checkpoint, where training refuses this one",
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
    noisy = drops or recipe.train.traits.hides_tokens
    most = MANY_NOISY_READINGS if noisy else MANY_READINGS
    if run.epochs <= most:
        return
    fewer = f"train.epochs: {most}" if recipe.train.epochs else f"train.steps: {int(run.steps * most / run.epochs)}"
    if run.epochs > most * run.steps and facts.rows:  # one step alone is more
        rows = min(facts.rows.rows, facts.rows.rows * most // run.steps)
        if recipe.train.epochs or not rows:  # an epoch a step is still one for every step
            fewer = f"train.{'epochs' if recipe.train.epochs else 'steps'}: {most} and train.batch_tokens: "
            fewer += str(facts.rows.positions)
        else:
            fewer = f"train.batch_tokens: {rows * facts.rows.positions // facts.rows.rows}"
    early = "" if recipe.train.early_stopping is None else ", unless train.early_stopping ends it before"
    yield Fault(
        "by_heart",
        f"the run reads its training text {run.epochs:,.0f} times: it learns it by heart{early}",
        f"{fewer} or less, or data.sources: more text"
        + ("" if noisy else "; model.dropout: 0.1 lets it be read more often"),
    )


def _few_trained(facts: Facts) -> Iterator[Fault]:
    rows, recipe = facts.rows, facts.recipe
    if not rows or rows.trained >= FEW_TRAINED:
        return
    if recipe.train.traits.hides_tokens:
        remedy = _more_guessed(rows, recipe.train)
    else:
        whole = "train.objective: causal_lm" if recipe.data.chat is None else "data.chat.train_on: all"
        remedy = f"{whole}, or data with shorter prompts or longer answers"
    yield Fault("few_trained", f"{rows.trained:.2%} of what a step reads is trained", remedy)


def _more_guessed(rows: RowFacts, train: TrainConfig) -> str:
    """What to change where a masked language model has too few tokens of its rows to guess: the usual share of them
    where it is lower, and shorter rows where they are so empty that this is not enough.
    """
    usual, probability = MaskingConfig().mlm_probability, (train.masking or MaskingConfig()).mlm_probability
    remedies = [f"train.masking.mlm_probability: {usual:g}"] if probability < usual else []
    if rows.trained * max(usual, probability) < FEW_TRAINED * probability:
        filled = max(2, round(rows.filled * rows.positions / rows.rows))
        batch = ", of which train.batch_tokens is a multiple" if isinstance(train.batch_tokens, int) else ""
        remedies.append(f"model.context_length: {filled} or less{batch}, or data.sources: more text")
    return ", and ".join(remedies)


def _frozen(facts: Facts) -> Iterator[Fault]:
    model, recipe = facts.model, facts.recipe
    if model is None or recipe.adapter is not None or not recipe.train.freeze:
        return
    if model.trained < FEW_LEFT * model.parameters:
        yield Fault(
            "frozen",
            f"train.freeze leaves {model.trained:,} of {model.parameters:,} numbers to train "
            f"({model.trained / model.parameters:.2%})",
            "train.freeze: fewer names; of layers those that shall be held still, the first being layers.0",
        )


def _slow_precision(facts: Facts) -> Iterator[Fault]:
    run, precision = facts.run, facts.recipe.train.precision
    if run and run.slower and run.slower > MUCH_SLOWER:
        yield Fault(
            "precision",
            f"products in {precision} take {run.slower:.1f} times as long as in fp32 on this processor, which has no "
            "unit for them",
            "train.precision: auto",
        )


def _rank(facts: Facts) -> Iterator[Fault]:
    adapter, model = facts.recipe.adapter, facts.model
    if adapter is None or model is None or model.narrowest is None or adapter.rank <= model.narrowest[1]:
        return
    layer, side = model.narrowest
    yield Fault(
        "rank",
        f"adapter.rank is {adapter.rank}, and a side of {layer} has {side}: a product of that rank is any matrix "
        "there is, and what is above it trains for nothing",
        f"adapter.rank: {side} or less, or adapter.targets: larger layers alone",
    )


RUN_RULES: tuple[Rule, ...] = (
    _new_tokens,
    _random_rows,
    _template_tokens,
    _end_differs,
    _untried,
    _warmup,
    _large_batch,
    _by_heart,
    _few_trained,
    _frozen,
    high_rate,
    _slow_precision,
    _rank,
)
