"""Which channels and positions a structured layer sums, and the ways to compute the sums."""
