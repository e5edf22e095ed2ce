"""Runs the checks in a process of their own, so that a crash or an endless run costs one network only."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.checks import PARTS, is_checked, row_of
from benchmarks.zoo.networks import zoo
from sconv_search.system.parent_watch import end_with_parent


class Worker:
    """A process that makes rows, one after the other; a new one takes its place where it dies or takes too long.

    Args:
        limit_s: seconds for one row.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._start()

    def row(self, part: str, name: str) -> dict[str, Any]:
        """The row; where there is none, one with the reason."""
        self._pipe.send((part, name))
        try:
            if self._pipe.poll(self._limit_s):
                columns: dict[str, Any] = self._pipe.recv()
                return columns
            reason = f"took more than {self._limit_s:.0f} s"
        except (EOFError, OSError):
            self._process.join()
            reason = f"its process ended with exit code {self._process.exitcode}"
        self.close()
        self._start()
        return {"network": name, "kind": zoo()[name].kind, "part": part, "reason": reason}

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


def _work(pipe: Connection) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    while True:
        try:
            part, name = pipe.recv()
        except EOFError:
            return
        try:
            row = row_of(part, name)
        except Exception as error:  # of any kind: it becomes the row's
            kind = zoo()[name].kind
            row = {"network": name, "kind": kind, "part": part, "reason": f"{type(error).__name__}: {error}"[:400]}
        pipe.send(row)


def read_rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(network, part) -> its last row in the file; empty where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["network"], row["part"]): row for row in rows}


def add_rows(
    path: Path, parts: Sequence[str], names: Sequence[str], limit_s: float, again: bool = False
) -> Iterator[dict[str, Any]]:
    """Adds a row for each network and part that the file lacks, and yields it.

    Args:
        again: rows with a failure or without result are made anew.
    """
    known = read_rows(path)
    worker = Worker(limit_s)
    try:
        for part in PARTS:
            for name in (name for name in names if part in parts and is_checked(part, name)):
                row = known.get((name, part))
                if row is not None and not (again and (row.get("reason") or row.get("failures"))):
                    continue
                row = worker.row(part, name)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield row
    finally:
        worker.close()
