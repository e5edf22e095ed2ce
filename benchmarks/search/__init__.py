"""How good and how fast searches and reports are."""
