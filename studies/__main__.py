"""``python -m sconv_search.studies`` is ``sconv-search``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path:
        # Python puts the working directory first: a json.py there would be everybody's
        sys.path.append(sys.path.pop(0))
    from sconv_search.studies.cli import main

    main()
