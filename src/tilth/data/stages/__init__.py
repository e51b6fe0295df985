"""The stages that a recipe's `clean:` names, and what they make of documents.

table.py      all stages by name, presets, how `clean:` is checked
base.py       what a stage is
run.py        a stage over documents: verdicts, pieces, what was changed
text.py       characters, line ends, white space, length
filters.py    the published quality filters: Gopher, C4, FineWeb
rules.py      what the filters share
"""

from __future__ import annotations

from tilth.data.stages.base import Kind, Result
from tilth.data.stages.run import Outcomes, clean, run_stage
from tilth.data.stages.table import PRESETS, STAGES, CleanStages, Stage, build_stages

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
    "run_stage",
]
