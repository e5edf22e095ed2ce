"""The report folder: one page, and its figures, tables and data as files, from run folders."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from sconv_search.reports.analysis.choice import choices
from sconv_search.reports.analysis.effort import effort
from sconv_search.reports.analysis.method_comparison import verdicts
from sconv_search.reports.analysis.summary import summarize
from sconv_search.reports.data_files import to_csv, write_tables
from sconv_search.reports.document.blocks import Block, Fold, Heading, Plot, Table
from sconv_search.reports.document.html import to_html
from sconv_search.reports.document.latex import table_latex
from sconv_search.reports.document.markdown import table_markdown, to_markdown
from sconv_search.reports.drawing.chart import Nothing
from sconv_search.reports.drawing.matplotlib_files import USUAL_KINDS, FigureWriter, Job, figure_writer, require_kinds
from sconv_search.reports.figures.search_progress import search_progress
from sconv_search.reports.reading.records_table import Reading, read_runs
from sconv_search.reports.sections.provenance import provenance_section
from sconv_search.reports.sections.task import task_section
from sconv_search.reports.sections.verdict import opening, verdict_frame, verdict_section
from sconv_search.reports.wording import score_format
from sconv_search.strict_json import parsed
from sconv_search.system.files import atomic_write

TITLE = "sconv-search report"
Progress = Callable[[int, int], None]
"""Called with (figures drawn, figures in all)."""
MANIFEST = "data/files.json"
"""Lists what a report wrote, so that the next one in the same folder leaves no figure of the former behind."""


def write_report(
    paths: Iterable[Path | str],
    out: Path | str,
    progress: Progress | None = None,
    *,
    figures: Sequence[str] | None = None,
    overwrite: bool = False,
    tell: Callable[[Sequence[str]], None] | None = None,
) -> list[Path]:
    """The files written into ``out``: ``index.html``, ``summary.md``, and ``figures/``, ``tables/`` and ``data/``
    beside them.

    Each appears whole or not at all, the page last; of an earlier report in the folder they take the place.

    Args:
        progress: told of the figures drawn, which take much of the time.
        figures: kinds of their files, of ``svg``, ``png`` and ``pdf``; the page holds its own figures, so that there
            may be none. By default SVG and PNG.
        tell: told what of the runs could not be read, which the page lists, too.
        overwrite: whether files of a folder that no report was written to are replaced.

    Raises:
        FileExistsError: the folder holds files of these names that no report wrote.
        FileNotFoundError: a run folder is missing or holds no ``trials.jsonl``.
        ValueError: no run folder is given, no line of any is readable, ``out`` is empty, or a kind of figure is
            unknown.
        NotADirectoryError: ``out``, or a folder above it, is a file.
        PermissionError: ``out`` may not be written to.
        TypeError: ``figures`` is a text, and no list of them.
    """
    if not str(out):
        raise ValueError("the report's folder is empty, as an unset variable is; name one")
    if isinstance(figures, str):
        raise TypeError(f"figures is a list of kinds, such as ['pdf'], got {figures!r}")
    kinds = tuple(dict.fromkeys(USUAL_KINDS if figures is None else figures))
    require_kinds(kinds)
    folder = Path(out)
    former = _former(folder)
    if former is None and not overwrite:
        _require_free(folder)
    with _few_collections(), figure_writer(kinds, progress) as artist:
        reading = read_runs(paths)
        if tell is not None:
            tell(reading.dropped)
        report = make_report(reading, artist)
        for part in (folder, *(folder / name for name in ("figures", "tables", "data"))):
            _make_folder(part)
        files = document_files(report.blocks, kinds)
        pages = {name: files.pop(name) for name in PAGES}  # last: they show what then is there
        drawn = [f"figures/{job.stem}.{kind}" for block in report.blocks for job in _jobs(block) for kind in kinds]
        tables = [f"data/{name}.{kind}" for name in report.data for kind in ("csv", "parquet")]
        # before anything is written, in case it is interrupted
        _list(folder, [*(former or ()), *tables, *files, *drawn, *pages])
        names = _write_data(folder, report.data)  # while the figures are drawn
        names += _write_all(folder, files)
        names += _write_all(folder, artist.files())
        names += _write_all(folder, pages)
    for name in {name for name in former or () if _LEFT.fullmatch(name)} - set(names):
        (folder / name).unlink(missing_ok=True)
    _list(folder, names)
    return [folder / name for name in (*names, MANIFEST)]


def _list(folder: Path, names: Iterable[str]) -> None:
    _write_all(folder, {MANIFEST: json.dumps(sorted(set(names)), indent=0, ensure_ascii=False).encode("utf-8")})


PAGES = ("summary.md", "index.html")
_LEFT = re.compile(r"(figures|tables)/[^/\\]+")
"""What a later report removes where it does not write it itself."""


@contextmanager
def _few_collections() -> Iterator[None]:
    """Garbage is looked for a hundred times less often: each search would walk all texts of a large table, which live
    on.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100 * max(usual[0], 700), *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _former(folder: Path) -> set[str] | None:
    """What an earlier report wrote into the folder, by its own list; the rest is not ours. None without a list."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        listed = parsed((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return set()  # a report's folder still, of which nothing is known to be left over
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


def _require_free(folder: Path) -> None:
    """Refuses a folder with files that a report would replace, and that none wrote."""
    for name in (*PAGES, "data/trials.csv", "data/summary.csv"):
        if (folder / name).is_file():
            raise FileExistsError(
                f"{folder / name} is of no report; choose another folder, or replace it with --overwrite"
            )


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report before it is files.

    Args:
        blocks: the document.
        data: name -> tidy table.
    """

    blocks: list[Block]
    data: dict[str, pd.DataFrame] = field(default_factory=dict)


def make_report(reading: Reading, artist: FigureWriter | None = None) -> Report:
    """The document and the tidy data of a reading; its figures are given to the artist one by one, as they are
    known.
    """
    table = reading.table
    summary, spent = summarize(table), effort(table, reading.runs)
    decided, chosen, stems = verdicts(table, summary), choices(summary, reading.runs), _stems(table["task"].unique())
    blocks: list[Block] = [Heading(text=TITLE, level=1), *opening(reading, spent)]

    def add(part: Iterable[Block]) -> None:
        for block in part:
            blocks.append(block)
            if artist is not None:
                for job in _jobs(block):
                    artist.submit(job)

    add(verdict_section(reading, summary, chosen, decided, stems))
    progress = {task: search_progress(table, task, score_format(table[table["task"] == task])) for task in stems}
    for task, stem in stems.items():
        add(task_section(reading, summary, decided, progress[task], task, stem))
    add(provenance_section(reading, spent))
    data = {
        "trials": table,
        "summary": summary,
        "verdict": verdict_frame(decided),
        "effort": spent,
        "progress": pd.concat(
            [part for part in progress.values() if len(part)] or list(progress.values()), ignore_index=True
        ),
    }
    return Report(blocks=blocks, data=data)


def _stems(tasks: Iterable[str]) -> dict[str, str]:
    """Task -> with what its files' names begin, different even where upper and lower case are one."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for task in sorted(tasks):
        stems[task] = stem_of(task, taken)
        taken.add(stems[task].casefold())
    return stems


def stem_of(task: str, taken: set[str]) -> str:
    """A file name for the task that every file system and link can hold, different from those taken."""
    stem = re.sub(r"[^\w.]+", "-", task)[:60].strip(".-") or "task"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name.casefold() not in taken)


def document_files(blocks: Sequence[Block], kinds: Sequence[str]) -> dict[str, bytes]:
    """File name -> content of the tables, the Markdown and, at last, the page; equal reports give equal bytes.

    Args:
        kinds: of figures' files that there are.
    """
    files = dict(pair for table in _tables(blocks) for pair in _table_files(table))
    texts = {"summary.md": to_markdown(blocks, kinds), "index.html": to_html(TITLE, blocks)}
    return files | {name: text.encode("utf-8") for name, text in texts.items()}


def _jobs(block: Block) -> Iterator[Job]:
    if isinstance(block, Plot):
        for name, drawing in block.figure.drawings.items():
            if not isinstance(drawing, Nothing):
                yield Job(stem=block.stems[name], drawing=drawing, heading=block.task)


def _tables(blocks: Iterable[Block]) -> Iterator[Table]:
    for block in blocks:
        table = block.inside if isinstance(block, Fold) else block
        if isinstance(table, Table) and table.key:
            yield table


def _table_files(table: Table) -> Iterator[tuple[str, bytes]]:
    raw = (
        table.raw
        if table.raw is not None
        else pd.DataFrame([list(row) for row in table.rows], columns=list(table.header))
    )
    yield f"tables/{table.key}.csv", to_csv(raw)
    yield f"tables/{table.key}.md", f"{table_markdown(table)}\n".encode()
    yield f"tables/{table.key}.tex", table_latex(table).encode("utf-8")


def _write_data(folder: Path, data: Mapping[str, pd.DataFrame]) -> list[str]:
    names = []
    for name, table in data.items():
        pair = [f"data/{name}.csv", f"data/{name}.parquet"]
        with ExitStack() as stack:
            write_tables(table, *(stack.enter_context(_replaced(folder / part)) for part in pair))
        names += pair
    return names


def _write_all(folder: Path, contents: Mapping[str, bytes]) -> list[str]:
    for name, content in contents.items():
        with _replaced(folder / name) as file:
            file.write(content)
    return list(contents)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"cannot make report folder {folder}: it, or a folder above it, is a file; choose another"
        ) from error
    except PermissionError as error:
        raise PermissionError(
            f"cannot make report folder {folder}: no permission; make it writable or choose another"
        ) from error


@contextmanager
def _replaced(file: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the name's place once it is whole; after an error what was there before is left.

    Raises:
        IsADirectoryError, PermissionError: the file cannot be written; it is named.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError
        with atomic_write(file) as partial, partial.open("wb") as opened:
            yield opened
    except PermissionError as error:
        raise PermissionError(
            f"cannot write {file}: no permission; make it writable or choose another folder"
        ) from error
    except IsADirectoryError as error:
        raise IsADirectoryError(
            f"cannot write {file}: a folder has that name; remove it or choose another folder"
        ) from error
