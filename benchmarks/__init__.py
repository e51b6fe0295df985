"""tilth and its peers on the same work, in turns: `python -m benchmarks --help`, or `make bench`.

    bench.py        what a benchmark is: systems, metrics, how many times the peer's figure tilth should reach
    worker.py       the process of one system: does one repeat when asked, and says what it measured
    harness.py      runs a benchmark: the systems of it take turns
    results.py      results.json, which keeps what other runs measured, and RESULTS.md from it
    suite.py        all benchmarks
    training.py  to_loss.py  generation.py  tokenizing.py  nano.py      systems, ours and others'

The scripts beside them (filters, lora, near_duplicates, packing, scaling) can be run by themselves; each has a function
`suite` that makes it a system.
"""
