"""What compression costs in accuracy."""
