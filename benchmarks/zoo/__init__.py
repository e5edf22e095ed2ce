"""Public networks put through the product, with random weights: what is counted and compressed, and why not.

``python -m benchmarks.zoo run`` adds rows to the results file, ``python -m benchmarks.zoo table`` makes the page of it.
"""
