"""One training loop for every method, its loss, schedule, checkpoints and scores."""
