"""``python -m sconv_search``: the same as ``sconv-search``."""

from __future__ import annotations

from sconv_search.studies.__main__ import main

if __name__ == "__main__":
    main()
