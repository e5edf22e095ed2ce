"""Files at an address that other machines see too, such as ``s3://bucket/folder``, by fsspec."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sconv_search.system.files import write_whole
from sconv_search.system.packages import require_package


@dataclass(frozen=True)
class RemoteFile:
    """A file or folder, as far as checkpoints need it; it offers what ``Path`` does, by the same names.

    Raises:
        ValueError: fsspec does not know the kind of address, or a package that it needs is missing.
    """

    address: str

    def __post_init__(self) -> None:
        self._system()

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> RemoteFile:
        return RemoteFile(f"{self.address.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.address).name

    def with_name(self, name: str) -> RemoteFile:
        """The file of that name beside this one."""
        return RemoteFile(f"{self.address.rpartition('/')[0]}/{name}")

    def exists(self) -> bool:
        """Whether it is there."""
        with self._errors():
            system, path = self._system()
            return bool(system.exists(path))

    def write(self, content: bytes) -> None:
        """Writes the file, which appears whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with self._errors():
            system, path = self._system()
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.pipe_file(f"{path}.partial", content)
            system.mv(f"{path}.partial", path)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """A copy on this machine, for the time of the context."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self.name
            with self._errors():
                system, path = self._system()
                copy.write_bytes(system.cat_file(path))
            yield copy

    def rename(self, target: RemoteFile) -> None:
        """Gives it another name."""
        with self._errors():
            system, path = self._system()
            system.mv(path, target._system()[1])

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes it, whether it is a file or a folder."""
        with self._errors():
            system, path = self._system()
            if not missing_ok or system.exists(path):
                system.rm(path, recursive=True)

    def _system(self) -> tuple[Any, str]:
        fsspec = require_package("fsspec", "cluster", "files at an address need")
        try:
            system, path = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"the address {self.address!r} cannot be used: {error}") from error
        return system, path

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns what the libraries of stores raise into errors of a file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), self.address) from error
        except Exception as error:  # of kinds of their own
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.address) from error


SomeFile = Path | RemoteFile


def file_at(address: str) -> SomeFile:
    """The file at an address, or at a path of this machine."""
    return RemoteFile(address) if "://" in address else Path(address)


def write_file(file: SomeFile, content: bytes) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(file, RemoteFile):
        file.write(content)
    else:
        write_whole(file, content)


@contextmanager
def local_copy(file: SomeFile) -> Iterator[Path]:
    """The file on this machine: itself, or a copy of it."""
    if isinstance(file, RemoteFile):
        with file.local() as copy:
            yield copy
    else:
        yield file
