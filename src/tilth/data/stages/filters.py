"""The published quality filters: what keeps prose and drops the rest of the web.

    gopher_quality      words, symbols, bullets, stop words       gopher_quality.py
    gopher_repetition   lines, paragraphs and n-grams that recur  gopher_repetition.py
    c4                  lines that are sentences                  c4.py
    fineweb             lists, menus, boilerplate                 fineweb.py

They were made for English prose: code, tables, verse and languages without spaces are dropped by them. Rules are named
`stage/rule`.
"""

from __future__ import annotations

from tilth.data.stages.base import Kind
from tilth.data.stages.c4 import C4
from tilth.data.stages.fineweb import FINEWEB
from tilth.data.stages.gopher_quality import GOPHER_QUALITY
from tilth.data.stages.gopher_repetition import GOPHER_REPETITION

FILTER_STAGES: dict[str, Kind] = {
    "gopher_quality": GOPHER_QUALITY,
    "gopher_repetition": GOPHER_REPETITION,
    "c4": C4,
    "fineweb": FINEWEB,
}
