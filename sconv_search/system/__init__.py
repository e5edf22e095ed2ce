"""Caches by content, files that appear whole, weights, seeds, memory formats: what is between us and the machine."""
