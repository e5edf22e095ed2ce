"""The program ``sconv-search``, also as ``python -m sconv_search.studies``, from its first moment on.

Modules load for seconds, in which Ctrl-C has to end it too.
"""

from __future__ import annotations

from sconv_search.system.signals import end_at_once


def main() -> None:
    """Entry point of ``sconv-search``."""
    end_at_once()
    from sconv_search.studies.cli import main as run  # here: it takes seconds

    run()


if __name__ == "__main__":
    main()
