"""The options of every command, from which flags, ``--config`` keys and ``--help`` are made; without torch."""
