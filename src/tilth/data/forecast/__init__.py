"""What a recipe would make of its sources, foretold from a sample of them.

units.py      what a sample is drawn from: whole files, and pieces of large ones
fronts.py     the beginning of files that can be read from their front only
groups.py     the sample, dealt out; what is counted in each group
estimate.py   from a sample to the whole, with error bars; how duplicates grow
trial.py      the real tasks over the sample: foretell(config, tokenizer, …) -> Forecast
reckon.py     what follows from them for the whole
"""

from __future__ import annotations

from tilth.data.forecast.estimate import Estimate
from tilth.data.forecast.groups import Terms
from tilth.data.forecast.reckon import Forecast
from tilth.data.forecast.trial import foretell

__all__ = ["Estimate", "Forecast", "Terms", "foretell"]
