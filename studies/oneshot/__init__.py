"""One call from a trained network to a compressed one, without a study: plan, fit, files."""
