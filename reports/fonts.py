"""A small copy of matplotlib's own font: each PDF embeds the letters that it uses, which are soon cut out of a small
font.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]  # fontTools ships no types
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

FAMILY = "Report Sans"
# Latin, Greek, dashes and quotes, arrows, and the signs of mathematics and markers that reports write.
_LETTERS = (*range(0x20, 0x250), *range(0x370, 0x400), *range(0x2010, 0x2040), 0x2190, 0x2192, 0x2212, 0x221A, 0x25BC)
_DROPPED = ("GSUB", "GPOS", "GDEF", "kern", "FFTM")
_NAMES = (1, 4, 6, 16)  # family, full, PostScript and typographic family name


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Kept for the life of the process, as the font is read from it, and removed at its end."""
    return tempfile.TemporaryDirectory(prefix="sconv-search-font-")


def small_copy(source: Path) -> Path:
    """A TrueType file of the family ``FAMILY`` with the source's outlines of common letters; other letters need a
    fall-back.
    """
    font = TTFont(source, recalcTimestamp=False)
    options = subset.Options()
    options.hinting = False
    options.layout_features = []
    options.name_IDs = ["*"]
    options.drop_tables += list(_DROPPED)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=_LETTERS)
    cutter.subset(font)
    for entry in font["name"].names:
        if entry.nameID in _NAMES:
            entry.string = FAMILY.replace(" ", "") if entry.nameID == 6 else FAMILY
    path = Path(_folder().name) / "font.ttf"
    font.save(path)
    return path
