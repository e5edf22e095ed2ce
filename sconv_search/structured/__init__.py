"""Structured convolutions: sum-pooling followed by a smaller layer, and the loss that trains towards them."""
