"""Networks of the built-in tasks that no library ships."""
