"""Pages for people: of a run, and of a dataset."""
