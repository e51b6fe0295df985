"""Text that a model writes: asked for once, kept, and from then on a file like any other.

SyntheticConfig                        config.py       what a recipe says of it
prompts(config, seeds)                 prompts.py      the numbered requests, a pure function of the recipe
list_synthetic(config, …) -> Listing   listing.py      asks for what is missing; the fixed file
read_synthetic(intake)                 answers.py      its documents, or question and answer pairs; pure

asking.py      many requests at a time: rate, cost, retries
endpoint.py    one request: deadline, size, what a status means
store.py       what was sent and answered, a line each, on disk before anything else happens
budget.py      what it costs, what it may cost
"""

from __future__ import annotations
