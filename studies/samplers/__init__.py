"""What is tried next: Optuna's samplers, a surrogate model, successive halving."""
