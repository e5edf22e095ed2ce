"""The command that compresses one network by one call: what was typed, the work, and what is said of it."""
