"""Documents and lines that say the same."""
