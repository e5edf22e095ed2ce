"""Labeled images in fixed splits, in memory or on disk, and how batches of them are drawn."""
