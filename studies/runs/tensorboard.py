"""Records as TensorBoard logs. The package ``tensorboard`` is an optional extra; torch writes through it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sconv_search.records import TrialRecord
from sconv_search.studies.monitor import Monitor
from sconv_search.training.loop import Progress as Step

SEARCH_COLUMNS = ("val_score", "val_loss", "regularization", "regularized_share", "residual", "wall_s")
CONFIRM_COLUMNS = ("test_score", "val_score_before", "val_score_after", "val_score", "residual", "latency_ms", "wall_s")
STEPS_AN_EPOCH = 1000
"""TensorBoard counts in whole steps: a residual's step is in thousandths of an epoch."""


class TensorBoardMonitor(Monitor):
    """Passes everything on to another monitor, and writes each record's numbers as scalars.

    Trials of a search go to ``folder/<study>`` with their number as the step; each confirmed network goes to
    ``folder/<study>/<plan>-seed<seed>``, with the residual of every regularized layer over its epochs.

    Raises:
        ValueError: the package ``tensorboard`` is not installed.
        OSError: the folder cannot be made.
    """

    def __init__(self, inner: Monitor, folder: Path) -> None:
        self._inner, self._folder, self._writer_class = inner, folder, _writer_class()
        self._writers: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = f"the TensorBoard folder {str(folder)!r} cannot be written"
            raise OSError(f"{where}: {error.strerror}; name another with --tensorboard") from error

    def say(self, text: str) -> None:
        """Passed on."""
        self._inner.say(text)

    @contextmanager
    def bar(self, label: str) -> Iterator[Step]:
        """Passed on."""
        with self._inner.bar(label) as step:
            yield step

    def recorded(self, record: TrialRecord) -> None:
        """Writes the record's numbers to the disk; those that are missing are left out."""
        self._inner.recorded(record)
        name = _log_of(record)
        if name not in self._writers:
            self._writers[name] = self._writer_class(str(self._folder / name))
        for tag, value, step in _scalars(record):
            self._writers[name].add_scalar(tag, value, step)
        self._writers[name].flush()

    def close(self) -> None:
        """Ends the log files."""
        for writer in self._writers.values():
            writer.close()


@contextmanager
def logged(monitor: Monitor, folder: Path | None) -> Iterator[Monitor]:
    """The monitor; with a folder, one that writes TensorBoard logs into it besides.

    Raises:
        ValueError, OSError: as ``TensorBoardMonitor``.
    """
    if folder is None:
        yield monitor
        return
    logging = TensorBoardMonitor(monitor, folder)
    try:
        yield logging
    finally:
        logging.close()


def require_tensorboard() -> None:
    """Refuses, before any work, logs that nothing here can write.

    Raises:
        ValueError: the package ``tensorboard`` is not installed.
    """
    _writer_class()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second, and the package may be absent
    except ImportError as error:
        needed = "--tensorboard needs the package tensorboard, which is not installed"
        raise ValueError(f"{needed}; pip install 'sconv-search[tensorboard]'") from error
    return SummaryWriter


def _log_of(record: TrialRecord) -> str:
    """The log's folder: TensorBoard draws each as a line of its own."""
    if record.stage == "search":
        return record.study
    plan = record.variant if record.number is None else f"{record.variant}-{record.number}"
    return f"{record.study}/{plan}-seed{record.seed}"


def _scalars(record: TrialRecord) -> Iterator[tuple[str, float, int]]:
    """Tag, value and step of everything that the record knows."""
    searched = record.stage == "search"
    step = (record.number if searched else record.seed) or 0
    values = {name: getattr(record, name) for name in (SEARCH_COLUMNS if searched else CONFIRM_COLUMNS)}
    if record.flops is not None and record.dense_flops:
        values["flops_percent_of_dense"] = 100 * record.flops / record.dense_flops
    for name, value in values.items():
        if value is not None:
            yield f"{record.stage}/{name}", value, step
    history = json.loads(record.residual_course or "{}")
    for site, residuals in history.get("sites", {}).items():
        for epoch, residual in zip(history["epochs"], residuals, strict=True):
            yield f"residual/{site}", residual, round(STEPS_AN_EPOCH * epoch)
