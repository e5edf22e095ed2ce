"""``python -m sconv_search.studies`` is ``sconv-search``."""

from sconv_search.studies.cli import main

main()
