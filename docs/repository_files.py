"""Takes into the site what its pages link to elsewhere in the repository, and lists the measured results.

A link ``../PATH`` of a page names a file of the repository, as it does where the page is read in the repository itself;
on the site the file stands under ``repository/PATH``. Without this, such links would leave the site, and rot unseen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PLACE = "repository"
LINK = re.compile(r"\]\(\.\./([\w./-]+)")
SHOWN = (".md", ".png", ".svg")
"""Kinds of result files that pages show; others are data."""


def on_files(files: Files, config: Any) -> Files:
    """Adds the linked files, all measured results, and the page that lists them."""
    results = [path for path in sorted((ROOT / "benchmarks" / "results").iterdir()) if path.suffix in SHOWN]
    wanted = {path.relative_to(ROOT).as_posix() for path in results}
    for page in Path(config.docs_dir).glob("*.md"):
        wanted |= {link for link in LINK.findall(page.read_text(encoding="utf-8")) if (ROOT / link).is_file()}
    for path in sorted(wanted):
        files.append(File.generated(config, f"{PLACE}/{path}", abs_src_path=str(ROOT / path)))
    pages = [path for path in results if path.suffix == ".md"]
    files.append(File.generated(config, "measurements.md", content=measurements(pages)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of top-level pages to the repository lead to its copy; one to a file that is missing is left, and found
    broken.
    """
    if "/" in page.file.src_uri:
        return markdown

    def kept(link: re.Match[str]) -> str:
        return f"]({PLACE}/{link[1]}" if (ROOT / link[1]).is_file() else link[0]

    return LINK.sub(kept, markdown)


def measurements(pages: list[Path]) -> str:
    """The page that lists the result files by their titles."""
    lines = [f"- [{_title(path)}]({PLACE}/{path.relative_to(ROOT).as_posix()})" for path in pages]
    words = (
        "Every number in this documentation is a measured one. Each file says by which command, on which machine and"
        " when."
    )
    return "\n".join(["# Measurements", "", words, "", *lines, ""])


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
