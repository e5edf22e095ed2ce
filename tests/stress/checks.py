"""What must hold of a run's folder at every moment, whatever happened to the command that wrote it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sconv_search.records import record_fields

ENDS = {".html": b"</html>\n", ".svg": b"</svg>\n", ".png": b"IEND\xaeB`\x82", ".parquet": b"PAR1"}
MOST_LETTERS = 500
FACTS = (
    "stage",
    "variant",
    "number",
    "seed",
    "status",
    "plan",
    "regularization",
    "val_score",
    "val_loss",
    "test_score",
)


def broken_files(folder: Path) -> Iterator[str]:
    """Files with their final name that are not whole; one that is being written, or was, has ``.partial`` in its
    name.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".partial" not in path.name):
        content = path.read_bytes()
        if (path.suffix in ENDS and not content.rstrip(b"\n").endswith(ENDS[path.suffix].rstrip(b"\n"))) or (
            path.suffix == ".pdf" and b"%%EOF" not in content[-16:]
        ):
            yield f"{path} ends with {content[-20:]!r}"
        elif path.suffix == ".json":
            yield from _not_json(path, content)
        elif path.suffix in (".safetensors", ".checkpoint"):
            try:
                with safe_open(path, "pt") as file:
                    for name in file.keys():  # noqa: SIM118  # no mapping
                        file.get_tensor(name)
            except SafetensorError as error:
                yield f"{path} is no safetensors file: {error}"


def _not_json(path: Path, content: bytes) -> Iterator[str]:
    try:
        json.loads(content)
    except ValueError as error:
        yield f"{path} is not JSON: {error}"


def records(run: Path) -> list[dict[str, Any]]:
    """The run's records, but a last line that has no newline yet."""
    path = run / "trials.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [record_fields(line) for line in lines]


def facts(run: Path) -> list[tuple[Any, ...]]:
    """What of each record must come again, in order."""
    return [tuple(row[name] for name in FACTS) for row in records(run)]


def doubled(run: Path) -> Iterator[str]:
    """Trainings that have more than one record."""
    keys = ("stage", "variant", "number", "seed", "plan")
    counted = Counter(tuple(row.get(name) for name in keys) for row in records(run))
    yield from (f"{run}: {count} records of {key[:4]}" for key, count in counted.items() if count > 1)


def misleading(said: str) -> Iterator[str]:
    """Tracebacks, and lines that are too long to be read."""
    if "Traceback" in said:
        yield f"traceback: {said[-1500:]}"
    for line in said.split("\n"):
        if line.startswith("error: ") and len(line) > MOST_LETTERS + 10:
            yield f"an error of {len(line)} letters: {line[:100]}"
