"""Which channels of a network can only be removed together, and their removal."""
