"""How fast layers and networks run, and how long compressing takes."""
