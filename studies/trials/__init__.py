"""One trial: cost, budget, training, compression, training, score, record."""
