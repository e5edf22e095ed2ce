"""Searches and confirmations: combinations of methods, tasks and schedules, no numerics."""
