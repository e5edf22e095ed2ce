"""The options of a network, what they cost together, and plans that fill a budget."""
