"""The tasks of data preparation: functions that fill a folder from their arguments alone. `pipeline.py` plans them.

    parts.py     parts of the corpus on disk: documents, what stages changed of them, the ledger
    corpus.py    what is known of all documents without their text
    examples.py  some documents of each rule, before and after
    collect.py   files of one source -> parts
    cleaning.py  a part -> what each stage changed, its digests, its signatures      (a chain: one pass makes them all)
    shared.py    lines that many documents share -> what a part loses of them
    items.py     evaluation files, or what the split holds out -> an index of n-grams
    dedup.py     all digests and signatures -> which documents go, and which belong together
    split.py     which document is for training, validation or test
    leaks.py     a part, an index -> what of it holds an item; all parts -> what leaves training; measured recall
    encode.py    a part -> its documents and its token shards, by split

Each function's version stands beside it: raise it when the same input gives other bytes.
"""
