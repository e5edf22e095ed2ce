"""Measures a network's search space: sites, options, their costs and predicted damage."""
