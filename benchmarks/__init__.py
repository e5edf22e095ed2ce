"""Measurements: ratios against the alternative in the same run, each a module to run with python -m."""
