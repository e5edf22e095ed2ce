"""Scripts that draw the pictures and tables of the documentation."""
