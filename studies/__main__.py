"""``python -m sconv_search.studies`` is ``sconv-search``."""

from sconv_search.studies.program import main

main()
