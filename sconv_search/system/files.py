"""Files that appear whole or not at all, whatever interrupts their writing: the one writer of everything that is not
appended.

Errors name the file itself, and on a full disk the room that is missing.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

Content = bytes | memoryview | Callable[[BinaryIO], object]
"""What a file holds, or what writes it."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FREE = "bytes are free there"
_STEM_LETTERS = 30  # of a name that may have as many bytes as a file name can
_LITTLE_ROOM = 1 << 16


def partial_file(path: Path) -> Path:
    """Where this process writes the file; killed, it leaves it there. The suffix is the file's, as some writers go by
    it.

    The name holds machine and process, so that two that write one file at the same time do not move each other's half.
    """
    return path.with_name(f"{path.stem[:_STEM_LETTERS]}.{_machine()}-{os.getpid()}.partial{path.suffix}")


def remove_partial_files(path: Path) -> None:
    """Removes what processes of this machine that are gone, and this one, left of the file."""
    pattern = f"{escape(path.stem[:_STEM_LETTERS])}.{escape(_machine())}-*.partial{escape(path.suffix)}"
    for left in path.parent.glob(pattern):
        process = left.name.removesuffix(f".partial{path.suffix}").rpartition("-")[2]
        if process.isdecimal() and (int(process) == os.getpid() or not _is_alive(int(process))):
            left.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path, *, size: int | None = None) -> Iterator[Path]:
    """Where to write what is to become the file; its folder is made.

    The file gets its name at the end, in place of one that has it, and is on the disk by then. After an error nothing
    is left but what was there before. A link stays, and the file that it leads to is replaced; into a device or a pipe
    is written directly.

    Args:
        size: bytes that the file will have, where they are known; a full disk is then said with what is missing.

    Raises:
        OSError: the file cannot be written; it is named, not its unfinished form.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        with writing(path):
            yield path
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(target)
    partial = partial_file(target)
    try:
        with writing(path, size=size):  # within, so that a full disk is looked at while it is full
            yield partial
            _to_disk(partial)
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: Content) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        OSError: as ``atomic_write``.
    """
    size = None if callable(content) else len(content)
    with atomic_write(path, size=size) as partial, partial.open("wb") as file:
        content(file) if callable(content) else file.write(content)


def write_together(contents: Mapping[Path, Content]) -> None:
    """Writes files that belong together: all of them get their names, or those that were there before stay.

    All are on the disk before the first gets its name. A process that is killed between two names leaves what was there
    before beside them, under a name with ``.former``; readers tell the mixture by checksums.

    Raises:
        OSError: as ``atomic_write``.
    """
    targets = {Path(os.path.realpath(path)): path for path in contents}
    new: list[Path] = []
    try:
        for target, path in targets.items():
            content = contents[path]
            if target.exists() and not target.is_file():
                number = errno.EISDIR if target.is_dir() else errno.EEXIST
                raise OSError(number, f"{os.strerror(number)}; it is no regular file", str(path))
            with writing(path, size=None if callable(content) else len(content)):
                target.parent.mkdir(parents=True, exist_ok=True)
                remove_partial_files(target)
                with partial_file(target).open("wb") as file:
                    content(file) if callable(content) else file.write(content)
                _to_disk(partial_file(target))
        for target, path in targets.items():
            with writing(path):
                if target.exists():
                    os.replace(target, _former(target))
                else:
                    new.append(target)
                os.replace(partial_file(target), target)
    except BaseException:
        for target in targets:
            if _former(target).exists():
                os.replace(_former(target), target)
            elif target in new:
                target.unlink(missing_ok=True)
        raise
    finally:
        for target in targets:
            partial_file(target).unlink(missing_ok=True)
    for target in targets:
        _former(target).unlink(missing_ok=True)


def _former(path: Path) -> Path:
    """Where a file is kept until those that it belongs to are replaced, too."""
    return path.with_name(f"{path.stem[:_STEM_LETTERS]}.{_machine()}-{os.getpid()}.former{path.suffix}")


def append_whole(path: Path, text: str) -> None:
    """Adds whole lines to a file, and waits until they are on the disk.

    Raises:
        OSError: the file cannot be written; it is named.
    """
    content = text.encode("utf-8")
    with writing(path, size=len(content)), open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path, *, size: int | None = None) -> Iterator[None]:
    """The time in which a file is written.

    Raises:
        OSError: as raised within, with the file's name, and on a full disk with the room that is missing; also where a
            library that writes the file raises errors of its own kind on a full disk.
    """
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = error.strerror or str(error)
        room = _room(path, size) if number in FULL and _FREE not in reason else ""
        raise OSError(number, f"{reason}{room}", str(path)) from error
    except Exception as error:  # of libraries, which say in their own words that the disk is full
        number = _number_within(error) or (errno.ENOSPC if _disk_bytes(path) < _LITTLE_ROOM else 0)
        if number not in FULL:
            raise
        raise OSError(number, f"{os.strerror(number)}{_room(path, size)}", str(path)) from error


def _number_within(error: Exception) -> int:
    """The system's error number in a message of a library written in Rust; else 0."""
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match else 0


def _room(path: Path, size: int | None) -> str:
    """What is free where the file lies, and what it needs, in words; empty for a device, which lies on no disk."""
    if path.exists() and not path.is_file():
        return ""
    partial = partial_file(path)
    free = _disk_bytes(path) + (partial.stat().st_size if partial.exists() else 0)
    needs = "" if size is None else f"; it needs {size:,} bytes"
    missing = "" if size is None or size <= free else f", {size - free:,} more"
    return f" ({free:,} {_FREE}{needs}{missing})"


def _disk_bytes(path: Path) -> int:
    """Free bytes on the disk of the file."""
    existing = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    return shutil.disk_usage(existing).free


def _to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _machine() -> str:
    return re.sub(r"\W+", "_", platform.node())[:20] or "machine"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True
