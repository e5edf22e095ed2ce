"""The notebook runs from start to end, and is kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "notebooks" / "quick_start.ipynb"


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    found: nbformat.NotebookNode = nbformat.read(PATH, as_version=4)
    return found


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_every_code_cell_is_short_and_introduced(notebook: nbformat.NotebookNode) -> None:
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == kinds[-1] == "markdown"
    assert all(len(cell.source.splitlines()) <= 30 for cell in code(notebook))


@pytest.mark.slow
def test_it_runs_from_start_to_end(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    run = nbformat.from_dict(notebook)
    NotebookClient(run, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code(run) for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3  # the digits, the kernels, the Pareto figure
    assert said.count("of the FLOPs, ") >= 6  # three trials of two methods
    assert not any(output.output_type == "stream" and output.name == "stderr" for output in outputs)
    assert list(tmp_path.iterdir()) == []  # it works in a folder of its own
