"""Weights as people have them: files of several kinds, wrapped and named in several ways, as one table of tensors."""
