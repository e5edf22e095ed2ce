"""A run's folder on disk, and networks rebuilt from it."""
