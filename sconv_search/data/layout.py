"""Where a data set is expected, and what of it is missing; looked at before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sconv_search.data.splits import DATA_VARIABLE, data_folder


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a data set, in the folder of ``--data`` or in one named after the data set inside of it.

    Args:
        title: the data set's name in full.
        folder: the name of its own folder.
        parts: patterns of files, of each of which at least one must be there.
        alternative: patterns of another layout that is read as well.
        downloads: whether it is downloaded where it is missing.
    """

    title: str
    folder: str
    parts: tuple[str, ...]
    alternative: tuple[str, ...] = ()
    downloads: bool = False

    @property
    def words(self) -> str:
        """Where the data is expected, in words."""
        or_else = f" (or {', '.join(self.alternative)})" if self.alternative else ""
        place = f"the folder of --data (or {DATA_VARIABLE}, else ./data), or in {self.folder}/ there"
        return f"{', '.join(self.parts)}{or_else} in {place}"

    def root(self, folder: Path | None) -> Path:
        """The data set's folder.

        Raises:
            FileNotFoundError: the folder was named and does not exist, or a part is missing; the expected layout is
                given.
        """
        parent = data_folder(folder)
        candidates = [parent, parent / self.folder]
        found = min(candidates, key=lambda root: len(self._missing(root)))
        if missing := self._missing(found):
            raise FileNotFoundError(
                f"{self.title} is not in {str(parent)!r}: there is no {' and no '.join(missing)}; expected are"
                f" {self.words}"
            )
        return found

    def missing(self, folder: Path | None) -> str | None:
        """What ``root`` would say, or that it is downloaded; None where everything is there."""
        try:
            self.root(folder)
        except FileNotFoundError as error:
            return f"{error}; what is missing is downloaded there" if self.downloads else str(error)
        return None

    def _missing(self, root: Path) -> list[str]:
        known = [parts for parts in (self.parts, self.alternative) if parts]
        return min(([part for part in parts if next(root.glob(part), None) is None] for parts in known), key=len)
