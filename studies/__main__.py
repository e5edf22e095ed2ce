"""``python -m studies`` is ``sconv-search``."""

from studies.cli import main

main()
