"""What the report's figures show: one file a question, each from tables to plain numbers."""
