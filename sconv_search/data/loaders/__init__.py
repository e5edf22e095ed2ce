"""Users' own loaders of batches of any kind."""
