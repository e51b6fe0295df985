"""What a preflight knows before it judges: plain facts, of which the rules (rules.py) make errors and warnings.

tokens.py has those of documents, spelled.py of text, vocabulary.py of ids, run.py of rows and steps, memory.py of the
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilth.core.errors import TilthError
from tilth.jobs.objectives import packing_of
from tilth.jobs.preflight.memory import ModelFacts
from tilth.jobs.preflight.run import RowFacts, RunFacts
from tilth.jobs.preflight.spelled import SpelledFacts
from tilth.jobs.preflight.tokens import SplitFacts
from tilth.jobs.preflight.vocabulary import VocabularyFacts
from tilth.jobs.recipe import Recipe

COUNTED_IN: Mapping[str, tuple[str, ...]] = {
    "masked": ("encode/nothing_trained",),
    "empty": ("read/empty", "read/empty_turn", "encode/empty", "encode/empty_answer", "encode/empty_turn"),
}
"""The rules by which preparing left rows out that `Facts.masked` and `Facts.empty` count as well."""
OF_ALL = "of all that was read"
"""What `Facts.unusable` and `Facts.lost` count of; other counts are of training documents alone."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a part of the run refused when it was tried: the same error that training would end with.

    Attributes:
        rule: `too_long`, `masked`, `rows`, `mixture`, `validation`, `vocabulary`, `mask_token`, `model`, `memory`.
    """

    rule: str
    error: TilthError


@dataclass(frozen=True, slots=True)
class LeakFacts:
    """What training text has of validation items.

    Attributes:
        shared: validation items whose tokens are those of a training document.
        inside: items that training text holds, shared ones among them; None where it was not looked for.
        looked: how that is known, in words.
        taken_out: training documents that preparing took out or cut for their sake.
    """

    shared: int
    inside: int | None
    looked: str
    taken_out: int

    @property
    def items(self) -> int:
        """As far as is known."""
        return max(self.shared, self.inside or 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it.

    Attributes:
        recipe: with the model's shape filled in.
        train, validation: the documents of both.
        too_long: training documents that no row can hold; 0 where rows are windows.
        unusable: rows that could not be read or encoded, by stage and rule (`encode/role`).
        lost: rows that were encoded without something of theirs, by stage and rule (`encode/thoughts_left_out`).
        passed_over: files that were left out before any was read, by stage and rule: {files, first}.
        evaluation_files: of each source of `decontaminate.against` what is not looked for (data/leaks/exam_files.py).
        unknown: characters of training text that the tokenizer does not know.
        spelled: documents that spell special tokens.
        rows, run, model: None where a refusal stands in the way.
        refusals: in the order in which training would meet them.
        named: the first rows of rules, by file and row.
    """

    recipe: Recipe
    train: SplitFacts
    validation: SplitFacts
    too_long: int
    unusable: Mapping[str, int]
    lost: Mapping[str, int]
    passed_over: Mapping[str, Mapping[str, Any]]
    evaluation_files: Sequence[Mapping[str, Any]]
    unknown: int
    spelled: SpelledFacts
    leaks: LeakFacts
    vocabulary: VocabularyFacts
    rows: RowFacts | None
    run: RunFacts | None
    model: ModelFacts | None
    refusals: tuple[Refusal, ...]
    named: Mapping[str, Sequence[str]]

    @property
    def truncated(self) -> int | None:
        """Training documents that are too long for a row and are cut; None where a mixture was refused."""
        return self.rows.truncated if self.rows else self._would("truncate")

    @property
    def split(self) -> int | None:
        """The same, of those that become several."""
        return self.rows.split if self.rows else self._would("split")

    @property
    def dropped(self) -> int | None:
        """The same, of those that are left out."""
        return self.rows.dropped if self.rows else self._would("drop")

    def _would(self, way: str) -> int | None:
        packing = packing_of(self.recipe)
        if packing is None or packing.too_long != way:
            return 0
        return None if self.recipe.data.mixture is not None else self.too_long

    @property
    def masked(self) -> int | None:
        """Documents of which no token is trained: what preparing dropped for that, and what is of no use in rows. None
        where there are no rows, and something else than this is why.
        """
        before, dropped = self._left_out("masked"), self.dropped
        if self.rows is not None:
            return before + self.rows.untrained
        if any(refusal.rule == "masked" for refusal in self.refusals):
            return before + self.train.documents - (dropped or 0)
        trained = packing_of(self.recipe) is None or dropped == self.train.documents
        return before if trained else None

    @property
    def without_end(self) -> int | None:
        """Training documents with an answer whose end is missing, is not trained, or is cut off; none of a masked
        model, which stops nowhere. None where there are no rows that would tell what is cut off.
        """
        if self.recipe.train.traits.hides_tokens:
            return 0
        if self.rows is None and self.truncated != 0:
            return None
        return int(self.train.endless.sum()) + (self.rows.whole_cut if self.rows else 0)

    @property
    def empty(self) -> int:
        """Rows in which nothing is said, and documents with nothing to predict."""
        return self._left_out("empty") + int(self.train.empty.sum())

    def _left_out(self, what: str) -> int:
        return sum(self.unusable.get(rule, 0) for rule in COUNTED_IN[what])
