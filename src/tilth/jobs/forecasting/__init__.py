"""What a run will take, before it begins and while it goes."""
