"""datatrove's MinHash deduplication of a folder of JSON Lines files, as its own example has it: four steps, two tasks.

python datatrove_minhash.py CORPUS FOLDER     leaves FOLDER/kept/*.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    corpus, folder = Path(sys.argv[1]), Path(sys.argv[2])
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    reader = JsonlReader(str(corpus))
    steps = [
        (2, [reader, MinhashDedupSignature(signatures, config=config)]),
        (14, [MinhashDedupBuckets(signatures, buckets, config=config)]),
        (1, [MinhashDedupCluster(buckets, removed, config=config)]),
        (2, [reader, MinhashDedupFilter(removed), JsonlWriter(str(folder / "kept"), compression=None)]),
    ]
    for number, (tasks, pipeline) in enumerate(steps):
        logs = str(folder / "logs" / str(number))
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=2, logging_dir=logs).run()


if __name__ == "__main__":
    main()
