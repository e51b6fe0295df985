"""What is done to get from sources to a dataset, planned as content-addressed tasks."""
