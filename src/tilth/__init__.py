"""tilth."""
