"""The tasks of data preparation: functions that fill a folder from their arguments alone. `pipeline.py` plans them.

    parts.py     parts of the corpus on disk: documents, what stages changed of them, the ledger
    corpus.py    what is known of all documents without their text
    examples.py  some documents of each rule, before and after
    collect.py   files of one source -> parts
    cleaning.py  a part -> what each stage changed, its digests, its signatures      (a chain: one pass makes them all)
    dedup.py     all digests and signatures -> which documents go, and which belong together
    split.py     which document is for training, validation or test
    encode.py    a part -> its documents and its token shards, by split

Each function's version stands beside it: raise it when the same input gives other bytes.
"""
