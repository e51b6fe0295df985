"""The job behind `tilth evaluate`: a model's figures on the validation split of its run, or on a file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.allocator import keep_freed_blocks
from tilth.core.config import parse
from tilth.core.environment import Precision
from tilth.core.errors import CheckpointError, DataError, RecipeError, StorageError
from tilth.core.files import MANIFEST, read_manifest, storage_errors
from tilth.core.rundir import RunFolder
from tilth.data.batches.batch import Batch
from tilth.data.batches.pseudo import drawn_places, one_hidden_pass
from tilth.data.dataset import Dataset
from tilth.data.shards import TokenStream
from tilth.data.sources import SourceConfig
from tilth.data.sources.inputs import ARCHIVES, KINDS, READ_BY, kind_of
from tilth.distributed.runtime import Runtime
from tilth.evaluation.evaluator import evaluate
from tilth.evaluation.metrics import Metrics
from tilth.jobs.forecasting.room import evaluation_errors
from tilth.jobs.further_text import encode_files
from tilth.jobs.load import LanguageModel, load
from tilth.jobs.objectives import Reading, counted_bytes, held_out_pass
from tilth.jobs.places import Which
from tilth.jobs.runs import dataset_of, not_the_end, reading_habits, run_of, stored_recipe, traits_of
from tilth.training.config import OBJECTIVES, objectives_of

Say = Callable[[str], None]
_PLAIN_TEXT: dict[str, Any] = {"clean": "standard", "cross_document_attention": True, "format": "auto", "rows": {}}


def evaluate_run(
    run: Path | str,
    data: Path | str | None = None,
    which: Which = "final",
    precision: Precision = "fp32",
    batch_tokens: int = 16384,
    say: Say | None = None,
    reading: dict[str, str] | None = None,
    *,
    adapter: Path | str | None = None,
    pseudo_tokens: int | None = None,
    wrapped: bool | None = None,
) -> Metrics:
    """A deterministic full pass over the run's validation split, or over the text of `data` (a file, folder or glob),
    as the run's objective reads it: every token, the answers alone (sft), or those that a fixed draw hides (masked_lm).

    Text from `data` is cleaned as the run's recipe says; `say` is told what was changed or left out of it, and of later
    checkpoints than the final weights. The figures are of fp32 products unless asked otherwise.

    Args:
        run: a run folder, or one with a model in it (RUN/final, or a copy of it: `data` is needed then).
        reading: `format`, `field` and `separator` of `data`; what is not given is the recipe's where that is plain.
        adapter: another one to put beside the model, or `none` (`load`).
        pseudo_tokens: measure the pseudo-perplexity of a masked language model as well, on at most so many tokens.
        wrapped: as of `load`.
    """
    if reading and data is None:
        raise RecipeError(f"{' and '.join(reading)} without data to read", "name the text too: --data FILE")
    language_model, say = load(run, which, wrapped=wrapped, adapter=adapter), say or _nobody
    if said := not_the_end(run, which, language_model.path):
        say(said)
    place = run_of(Path(run))
    habits, note = _habits(place, language_model)
    if pseudo_tokens is not None and not traits_of(habits).hides_tokens:
        raise RecipeError(
            f"pseudo-perplexity is of masked language models; {run} predicts the next token",
            "leave it out: its perplexity is exact",
        )
    with _scratch() as scratch, contextlib.ExitStack() as held:
        if data is None:
            dataset = _dataset(place, Path(run))
            held.enter_context(dataset.held())
            stream = _validation(dataset)
        else:
            source = _source(str(data), habits, reading or {})
            stream, notes = encode_files(language_model, habits, source, scratch)
            for line in [*([note] if note else []), *notes]:
                say(line)
        context = language_model.config.context_length
        rows = max(1, batch_tokens // context)
        one = _Pass(language_model, Reading.of(habits, context), stream, rows, precision, say)
        figures = one.figures()
        return figures if pseudo_tokens is None else figures.with_pseudo(one.pseudo(pseudo_tokens))


@dataclass(frozen=True)
class _Pass:
    """What is measured on what: passes over a stream, `rows` rows at a time."""

    language_model: LanguageModel
    reading: Reading
    stream: TokenStream
    rows: int
    precision: Precision
    say: Say

    def figures(self) -> Metrics:
        """Of all that bears loss."""
        batches = held_out_pass(self.reading, self.stream, self.language_model.tokenizer, self.rows)
        return self._measured(batches, counted_bytes(self.reading, self.stream))

    def pseudo(self, most: int) -> Metrics:
        """Of at most `most` tokens, each hidden alone."""
        masker = self.reading.masker(self.language_model.tokenizer)
        assert masker is not None
        places = drawn_places(self.stream, masker.special, most)
        if len(places) == most:
            self.say(f"pseudo-perplexity: of {most:,} tokens, drawn from {self.stream.tokens:,} less the special ones")
        context, isolate = self.reading.context_length, self.reading.isolate or self.reading.packed
        return self._measured(one_hidden_pass(self.stream, context, self.rows, masker, isolate, places), 0)

    def _measured(self, batches: Iterator[Batch], text_bytes: int) -> Metrics:
        keep_freed_blocks()
        model = self.language_model.model
        runtime = Runtime(model.output_weight.device)
        with evaluation_errors():
            return evaluate(model, batches, text_bytes, runtime, self.precision, tell=self.say)


def _nobody(line: str) -> None:
    del line


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder; StorageError when the disk has no room for it or for what is put there."""
    remedy = "make room there, or name another folder for temporary files: TMPDIR=FOLDER"
    try:
        folder = tempfile.TemporaryDirectory(prefix="tilth-evaluate-")
    except OSError as error:
        raise StorageError(f"cannot make a temporary folder: {error.strerror}", remedy) from error
    with folder as path:
        try:
            with storage_errors(Path(path)):
                yield Path(path)
        except StorageError as error:
            raise error.with_remedy(remedy) from error


def _habits(run: Path | None, language_model: LanguageModel) -> tuple[dict[str, Any], str]:
    """How the model's text was read and cleaned (`reading_habits`), and a note where nothing tells."""
    if run is not None:
        return reading_habits(stored_recipe(RunFolder(run))), ""
    model = language_model.path
    facts = read_manifest(model) if (model / MANIFEST).exists() else {}
    if isinstance(facts.get("habits"), dict):
        return facts["habits"], ""
    objective = objectives_of(causal=language_model.config.is_causal)[0]
    masking: dict[str, Any] | None = {} if OBJECTIVES[objective].hides_tokens else None
    return (
        {**_PLAIN_TEXT, "objective": objective, "masking": masking},
        f"{model} does not say how its text was cleaned: `clean: {_PLAIN_TEXT['clean']}` is taken",
    )


def _source(pattern: str, habits: Mapping[str, Any], reading: Mapping[str, str]) -> SourceConfig:
    """`--data` as a source. The recipe's format is for files whose suffix says nothing."""
    rows = dict(habits["rows"])
    if "field" in reading:  # it says the same thing as these
        rows = {key: value for key, value in rows.items() if key not in ("template", "map")}
    kind = reading.get("format") or kind_of(pattern) or habits["format"]
    if kind in KINDS.values() and kind not in ARCHIVES:  # of the recipe, what says something about this file
        rows = {key: value for key, value in rows.items() if kind in READ_BY[key]}
    given = {**rows, **reading}
    if kind_of(pattern) is None:
        given = {"format": habits["format"], **given}
    return parse(SourceConfig, {"path": pattern, **given}, "--data")


def _dataset(run: Path | None, path: Path) -> Dataset:
    """The dataset that a run was trained on."""
    if run is None:
        raise CheckpointError(
            f"{path} is not in a run folder: there is no validation split to measure it on",
            "name a folder made by `tilth train`, or evaluate a file: --data FILE",
        )
    return dataset_of(run)


def _validation(dataset: Dataset) -> TokenStream:
    stream = dataset.stream("validation")
    if not stream.tokens:
        raise DataError(f"the dataset {dataset.folder} has no validation split", "evaluate a file: --data FILE")
    return stream
