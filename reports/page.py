"""The report folder: one page, and its figures, tables and data as files, from run folders."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sconv_search.reports.charts import Figure, Nothing
from sconv_search.reports.export import to_csv, writers
from sconv_search.reports.figures import KINDS
from sconv_search.reports.html_page import to_html
from sconv_search.reports.markup import Block, Fold, Heading, Plot, Table, table_latex, table_markdown, to_markdown
from sconv_search.reports.metric_words import metric_of, worded
from sconv_search.reports.prepared.course import courses
from sconv_search.reports.provenance_section import provenance_section, spent_effort
from sconv_search.reports.rendering import Job, Studio, studio
from sconv_search.reports.sections import task_section
from sconv_search.reports.summary import summarize
from sconv_search.reports.table import Reading, read_runs
from sconv_search.reports.verdict import verdicts
from sconv_search.reports.verdict_section import opening, verdict_frame, verdict_section
from sconv_search.strict_json import parsed
from sconv_search.system.files import Content, write_whole

TITLE = "sconv-search report"
Progress = Callable[[int, int], None]
"""Called with (figures drawn, figures in all)."""
MANIFEST = "data/files.json"
"""Lists what a report wrote, so that the next one in the same folder leaves no figure of the former behind."""


def write_report(
    paths: Iterable[Path | str], out: Path | str, progress: Progress | None = None, *, overwrite: bool = False
) -> list[Path]:
    """The files written into ``out``: ``index.html``, ``summary.md``, and ``figures/``, ``tables/`` and ``data/``
    beside them.

    Each appears whole or not at all, the page last; of an earlier report in the folder they take the place.

    Args:
        progress: told of the figures drawn, which take nearly all of the time.
        overwrite: whether files of a folder that no report was written to are replaced.

    Raises:
        FileExistsError: the folder holds files of these names that no report wrote.
        FileNotFoundError: a run folder is missing or holds no ``trials.jsonl``.
        ValueError: no run folder is given, no line of any is readable, or ``out`` is empty.
        NotADirectoryError: ``out``, or a folder above it, is a file.
        PermissionError: ``out`` may not be written to.
    """
    if not str(out):
        raise ValueError("the report's folder is empty, as an unset variable is; name one")
    folder = Path(out)
    former = _former(folder)
    if former is None and not overwrite:
        _require_free(folder)
    with _few_collections(), studio(KINDS, progress) as artist:
        report = make_report(read_runs(paths), artist)
        for part in (folder, *(folder / name for name in ("figures", "tables", "data"))):
            _make_folder(part)
        files = report_files(report)
        pages = {name: files.pop(name) for name in PAGES}  # last: they show what then is there
        figures = [f"figures/{job.stem}.{kind}" for job in _jobs(report.blocks) for kind in KINDS]
        # before anything is written, in case it is interrupted
        _list(folder, [*(former or ()), *files, *figures, *pages])
        names = _write_all(folder, files)  # while the figures are drawn
        names += _write_all(folder, artist.files())
        names += _write_all(folder, pages)
    for name in {name for name in former or () if _LEFT.fullmatch(name)} - set(names):
        (folder / name).unlink(missing_ok=True)
    _list(folder, names)
    return [folder / name for name in (*names, MANIFEST)]


def _list(folder: Path, names: Iterable[str]) -> None:
    _write(folder / MANIFEST, json.dumps(sorted(set(names)), indent=0, ensure_ascii=False).encode("utf-8"))


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


def report_files(report: Report) -> dict[str, Content]:
    """File name -> content of the report but its figures; equal reports give equal bytes."""
    files: dict[str, Content] = dict(pair for table in _tables(report.blocks) for pair in _table_files(table))
    for name, table in report.data.items():
        files |= dict(zip((f"data/{name}.csv", f"data/{name}.parquet"), writers(table), strict=True))
    texts = {"summary.md": to_markdown(report.blocks), "index.html": to_html(TITLE, report.blocks)}
    return files | {name: text.encode("utf-8") for name, text in texts.items()}


def make_report(reading: Reading, artist: Studio | None = None) -> Report:
    """The document and the tidy data of a reading; its figures are given to the artist one by one, as they are
    known.
    """
    summary, spent = summarize(reading.table), spent_effort(reading)
    decided = verdicts(reading.table, summary)
    before: list[Block] = [*opening(reading, spent), *verdict_section(decided)]
    blocks: list[Block] = [Heading(text=TITLE, level=1), *worded(before, metric_of(reading.table))]
    taken: set[str] = set()
    tasks = sorted(reading.table["task"].unique())
    course = {task: courses(reading.table, task) for task in tasks}
    for task in tasks:
        stem = stem_of(task, taken)
        taken.add(stem.casefold())
        metric = metric_of(reading.table[reading.table["task"] == task])
        for plain in task_section(reading, summary, decided, course[task], task, stem):
            item = worded(plain, metric)
            blocks.append(_placed(item, stem, task) if isinstance(item, Figure) else item)
            if artist is not None:
                for job in _jobs(blocks[-1:]):
                    artist.submit(job)
    blocks += provenance_section(reading, spent)
    data = {
        "trials": reading.table,
        "summary": summary,
        "verdict": verdict_frame(decided),
        "effort": spent,
        "course": pd.concat(
            [part for part in course.values() if len(part)] or list(course.values()), ignore_index=True
        ),
    }
    return Report(blocks=blocks, data=data)


def stem_of(task: str, taken: set[str]) -> str:
    """A file name for the task that every file system and link can hold, different from those taken."""
    stem = re.sub(r"[^\w.]+", "-", task)[:60].strip(".-") or "task"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name.casefold() not in taken)


def _placed(figure: Figure, stem: str, task: str) -> Plot:
    stems: dict[str, str] = {}
    for name in figure.drawings:
        own = re.sub(r"\W+", "-", name.replace("λ", "lambda"))[:60].strip("-").lower()
        wanted = "-".join(part for part in (stem, figure.key, own if len(figure.drawings) > 1 else "") if part)
        number = sum(other == wanted or other.startswith(f"{wanted}~") for other in stems.values())
        stems[name] = f"{wanted}~{number + 1}" if number else wanted
    return Plot(figure=figure, stems=stems, task=task)


def _write_all(folder: Path, contents: Mapping[str, Content]) -> list[str]:
    for name, content in contents.items():
        _write(folder / name, content)
    return list(contents)


def _jobs(blocks: Iterable[Block]) -> list[Job]:
    return [
        Job(stem=plot.stems[name], drawing=drawing, heading=plot.task)
        for plot in blocks
        if isinstance(plot, Plot)
        for name, drawing in plot.figure.drawings.items()
        if not isinstance(drawing, Nothing)
    ]


def _tables(blocks: Iterable[Block]) -> Iterator[Table]:
    for block in blocks:
        table = block.inside if isinstance(block, Fold) else block
        if isinstance(table, Table) and table.key:
            yield table


def _table_files(table: Table) -> Iterator[tuple[str, Content]]:
    raw = (
        table.raw
        if table.raw is not None
        else pd.DataFrame([list(row) for row in table.rows], columns=list(table.header))
    )
    yield f"tables/{table.key}.csv", to_csv(raw)
    yield f"tables/{table.key}.md", f"{table_markdown(table)}\n".encode()
    yield f"tables/{table.key}.tex", table_latex(table).encode("utf-8")


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


def _write(file: Path, content: Content) -> None:
    try:
        write_whole(file, content)
    except PermissionError as error:
        raise PermissionError(
            f"cannot write {file}: no permission; make it writable or choose another folder"
        ) from error
    except IsADirectoryError as error:
        raise IsADirectoryError(
            f"cannot write {file}: a folder has that name; remove it or choose another folder"
        ) from error
