"""Damaged and hostile inputs of every kind of file and flag, given to every command that reads them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.stress.checks import misleading
from tests.stress.kills import CONFIRM, REPORT, SEARCH, TASK, prepared
from tests.stress.processes import run
from tests.stress.results import Found

CANARY = "canary"
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    "",
    "x",
    "os:abort",
    "evil:run",
    "demo@evil:run",
    [],
    {},
    [[]],
    "a" * 5000,
    "\u2028\u0085\x0b\n",
    10**30,
    10**400,
    -(10**400),
    2**63,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    "9" * 400 + "%",
    "∑λ日本",
    "\x1b[31m",
    "../../x",
    {"a": 1},
    [1, "a", None],
    "NaN",
    "1e999",
    "\x00",
)
RAW = (
    b"",
    b"\n",
    b"\x00" * 64,
    b"\xff\xfe\x80",
    b"[" * 100_000,
    b"{" * 100_000,
    b'{"a":' * 50_000,
    b"null",
    b"[]",
    b"3",
    b'"x"',
    b"1" * 5000,
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    b"NaN",
    b"{}",
)
FILES = ("spec.json", "space.json", "trials.jsonl", "study.journal", "plan.json", "weights.safetensors", "files.json")
"""The last one is read by the report alone, which takes longest, and is drawn less often."""
READERS: dict[str, tuple[str, ...]] = {
    "spec.json": ("best", "search", "confirm", "export", "report"),
    "space.json": ("best", "search", "confirm", "report"),
    "trials.jsonl": ("best", "search", "confirm", "export", "report"),
    "study.journal": ("search",),
    "plan.json": ("export",),
    "weights.safetensors": ("export",),
    "files.json": ("report",),
}
WEIGHTS = {"report": 1, "confirm": 3}
"""How often a command is drawn, of those that take longest; others six times."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "best": ("best", "runs/one", "--budget", "80%"),
    "search": (*SEARCH, "--trials", "6"),
    "confirm": CONFIRM,
    "export": ("export", "runs/one", *TASK, "--to", "safetensors", "--out", "new.safetensors"),
    "report": REPORT,
}
FLAGS: dict[str, tuple[str, ...]] = {
    "search": (
        "--budget",
        "--trials",
        "--seed",
        "--minutes",
        "--patience",
        "--epochs",
        "--learning-rate",
        "--multiple",
        "--latency-batch",
        "--screening",
        "--device",
        "--regularized-share",
        "--distill",
        "--reconstruct",
        "--distillation",
        "--label-smoothing",
        "--checkpoint-seconds",
        "--objective",
        "--include",
        "--exclude",
        "--method",
        "--out",
        "--start-plan",
        "--weights",
        "--task",
        "--network",
        "--config",
        "--workers",
        "--sampler",
        "--quantity",
        "--data",
    ),
    "best": ("--budget", "--plan", "--quantity", "--config"),
    "export": ("--plan", "--seed", "--out", "--to", "--task", "--network", "--config"),
    "confirm": (
        "--seeds",
        "--plans",
        "--device",
        "--task",
        "--network",
        "--weights",
        "--checkpoint-seconds",
        "--config",
    ),
    "report": ("--out", "--config"),
}
WORDS = (
    "",
    "x",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e999",
    "9" * 400,
    "9" * 400 + "%",
    "1" * 5000,
    "50%..",
    "..",
    "λ",
    "\u2028",
    "\x1b[2J",
    "os:abort",
    "json:loads",
    "/dev/null/x",
    "/",
    ".",
    "a" * 300,
    "-",
    "--",
    "%",
    "0%",
    "100%",
    "1e-400",
    "x" * 100_000,
    "runs/one/spec.json",
    "runs/one",
    "2147483648",
    "18446744073709551616",
    "=",
    "a=b",
    "*",
    "[",
    "\udcff",
)


def mutate(folder: Path, numbers: Iterable[int], seed: int) -> Found:
    """The inputs of these numbers; number and seed say all of an input.

    Args:
        folder: for everything that is made; numbers that an earlier process noted there are left out.
    """
    found = Found(folder / "inputs.jsonl")
    whole = prepared(folder / "undisturbed") / "wanted"
    for number in (number for number in numbers if number not in found.numbers):
        place = folder / "damaged"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        (place / "evil.py").write_text(f"open({CANARY!r}, 'w')\ndef run(): open({CANARY!r}, 'w')\n", encoding="utf-8")
        own = random.Random(f"{seed} {number}")
        what, arguments = _damaged(place, own)
        before = _contents(place)
        status, said = run(arguments, place, folder / "said.txt")
        problems = list(_problems(place, before, status, said, arguments))
        context = f"input {number} of seed {seed}: {' '.join(arguments)[:300]}"
        found.note(what, status, problems, context, number)
    return found


def _problems(
    place: Path, before: dict[Path, bytes], status: int | str, said: str, arguments: tuple[str, ...]
) -> Iterator[str]:
    if status not in (0, 2):
        yield f"it ended with {status}: {said[-600:]}"
    yield from misleading(said)
    if (place / CANARY).exists() and not any("evil" in argument for argument in arguments):
        yield "code that a data file names was run"
    if status == 2:
        after = _contents(place)
        for path, content in before.items():
            if not _is_kept(path, content, after):
                yield f"{path.relative_to(place)} was changed by a command that ended with 2"


def _is_kept(path: Path, content: bytes, after: dict[Path, bytes]) -> bool:
    """Whether a refused command left a file alone; a last line that is not whole may be cut, or get its newline."""
    now = after.get(path)
    if now is not None and (content.startswith(now) or now == content + b"\n"):
        return True
    return any(other.name.startswith(f"{path.name}.former") and after[other] == content for other in after)


def _contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != ".lock"}


def _damaged(place: Path, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    """Damages one thing; what it was, and the command that is to meet it."""
    kind = draw.choice((*FILES[:-1], "config.toml", "flag", "start plan"))
    if kind == "flag" and draw.random() < 0.2:
        kind = FILES[-1]
    if kind == "flag":
        command = draw.choice(list(FLAGS))
        flag, word = draw.choice(FLAGS[command]), draw.choice(WORDS)
        short = ("--dry-run",) if command == "search" and draw.random() < 0.5 else ()
        return f"flags of {command}", (*COMMANDS[command], *short, flag, word)
    if kind == "config.toml":
        (place / "study.toml").write_bytes(_toml(draw))
        return kind, (*COMMANDS[draw.choice(["search", "best"])], "--config", "study.toml")
    if kind == "start plan":
        plan = next((place / "runs/one/confirmed").rglob("plan.json"))
        (place / "mine.json").write_bytes(_bytes(plan.read_bytes(), draw))
        return kind, (*SEARCH[:-1], "runs/new", "--trials", "1", "--dry-run", "--start-plan", "mine.json")
    paths = sorted(place.rglob(kind))
    path = paths[0] if kind in ("plan.json", "weights.safetensors") else draw.choice(paths)
    if kind in ("plan.json", "weights.safetensors"):
        path = next(found for found in paths if "searched" in str(found))
    content = path.read_bytes()
    path.write_bytes(_lines(content, draw) if kind in ("trials.jsonl", "study.journal") else _bytes(content, draw))
    readers = [name for name in READERS[kind] for _ in range(WEIGHTS.get(name, 6))]
    command = draw.choice(readers)
    arguments = COMMANDS[command]
    if kind == "spec.json" and command in ("confirm", "export"):
        arguments = (
            tuple(argument for argument in arguments if argument not in TASK) if draw.random() < 0.5 else arguments
        )
    return f"{kind}, {command}", arguments


def _lines(content: bytes, draw: random.Random) -> bytes:
    """A line of many damaged, lost, doubled, or moved."""
    lines = content.split(b"\n")[:-1]
    place = draw.randrange(len(lines))
    how = draw.randrange(8)
    if how == 0:
        del lines[place]
    elif how == 1:
        lines.insert(place, lines[draw.randrange(len(lines))])
    elif how == 2:
        draw.shuffle(lines)
    elif how == 3:
        lines.insert(place, draw.choice(RAW))
    else:
        lines[place] = _bytes(lines[place], draw)
    return b"\n".join(lines) + (b"\n" if draw.random() < 0.8 else b"")


def _bytes(content: bytes, draw: random.Random) -> bytes:
    """A file, or a line, damaged in some way."""
    ways: tuple[Callable[[bytes, random.Random], bytes], ...] = (
        _flipped,
        _cut,
        _raw,
        _valued,
        _valued,
        _valued,
        _valued,
    )
    return draw.choice(ways)(content, draw)


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _raw(content: bytes, draw: random.Random) -> bytes:
    return draw.choice(RAW)


def _valued(content: bytes, draw: random.Random) -> bytes:
    """A value somewhere within replaced by a hostile one, or a field lost or unheard of."""
    try:
        document = json.loads(content)
    except ValueError:
        return _flipped(content, draw)
    holders = list(_holders(document))
    if not holders:
        return json.dumps(draw.choice(HOSTILE)).encode()
    holder = draw.choice(holders)
    key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    how, value = draw.random(), draw.choice(HOSTILE)
    if how < 0.1 and isinstance(holder, dict):
        del holder[key]
    elif how < 0.2 and isinstance(holder, dict):
        holder["unheard\u2028of"] = value
    else:
        holder[key] = value
    return json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _toml(draw: random.Random) -> bytes:
    texts = (
        "trials = {}",
        "budget = {}",
        "out = {}",
        "plan = {}",
        "minutes = {}",
        "[search]\nseed = {}",
        "task = {}",
        "a = {}",
        "{}",
        "[[search]]\ntrials = {}",
        "epochs = {}",
        "method = [{}]",
        "device = {}",
    )
    values = (
        "1",
        "-1",
        "''",
        "'x'",
        "nan",
        "inf",
        "9" * 400,
        "9" * 5000,
        "[" * 50_000,
        "1979-05-27",
        "true",
        "'\\u2028'",
        '"\\u0000"',
        "{a = 1}",
        "[[1]]",
        "'" + "a" * 5000 + "'",
        "1e400",
        "'os:abort'",
        "x",
        "",
    )
    text = draw.choice(texts).format(draw.choice(values)).encode()
    return text if draw.random() < 0.8 else _flipped(text, draw)
