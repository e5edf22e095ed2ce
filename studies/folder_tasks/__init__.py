"""Tasks of a network by name and a folder of data, without code."""
