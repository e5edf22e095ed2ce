"""What the report says: numbers from records, and the sentences made of them."""
