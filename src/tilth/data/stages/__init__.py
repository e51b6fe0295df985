"""The stages that a recipe's `clean:` names, and what they make of documents.

table.py      all stages by name, presets, how `clean:` is checked
base.py       what a stage is
run.py        a stage over documents: verdicts, pieces, what was changed
messages.py   a stage over conversations, whose messages it rewrites
repair.py     text that was decoded wrongly
text.py       characters, line ends, white space, length
repeats.py    lines and paragraphs that a document repeats
rules.py      a user's regular expressions; patterns.py and ready_rules.py hold them
spelling.py   slips
language.py   which language, by the model in language_model.py
filters.py    the published quality filters, Gopher, C4, FineWeb; limits.py holds what they share
pii*.py       what belongs to one person or opens one door
cut.py        long documents in pieces, at borders that sentences.py finds
optional.py   libraries that come with an extra
told.py       rules and their limits, for remedies
"""

from __future__ import annotations

from tilth.data.stages.base import Kind, Result
from tilth.data.stages.run import Outcomes, clean, run_stage
from tilth.data.stages.table import PRESETS, STAGES, CleanStages, Stage, build_stages
from tilth.data.stages.told import limits

__all__ = [
    "PRESETS",
    "STAGES",
    "CleanStages",
    "Kind",
    "Outcomes",
    "Result",
    "Stage",
    "build_stages",
    "clean",
    "limits",
    "run_stage",
]
