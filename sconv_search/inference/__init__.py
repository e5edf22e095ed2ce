"""A trained network made ready to run: the fastest form of each layer, exported files, measured latencies."""
