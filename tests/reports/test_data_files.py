"""Tables as files."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.reports.data_files import to_csv, write_tables
from sconv_search.reports.document.blocks import Table
from sconv_search.reports.document.latex import latex_text, table_latex
from tests.reports.conftest import parquet


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=6)
)
def test_texts_come_back_from_csv_but_for_the_guard(texts: list[str]) -> None:
    content = bytes(to_csv(pd.DataFrame({"text": texts, "number": range(len(texts))}).astype({"text": "string"})))
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    assert rows[0] == ["text", "number"]
    found = [row[0] for row in rows[1:]]
    guarded = ["'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text for text in texts]
    assert found == guarded


def test_missing_is_empty_and_negative_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"a": [-1.5, None], "b": [None, 2]}).astype({"a": "Float64", "b": "Int64"})
    assert bytes(to_csv(table)).decode().replace('"', "") == "a,b\n-1.5,\n,2\n"


def test_parquet_keeps_types_and_texts() -> None:
    table = pd.DataFrame({"a": ["=1", None], "b": [1, None]}).astype({"a": "string", "b": "Int64"})
    found = pd.read_parquet(io.BytesIO(parquet(table)))
    assert found["a"].to_list()[0] == "=1"
    assert found["b"].isna().to_list() == [False, True]


def test_csv_and_parquet_of_one_pass_hold_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sconv_search.reports.data_files.ROWS", 3)
    table = pd.DataFrame({"a": [f"={number}" for number in range(8)]}).astype({"a": "string"})
    csv_file, parquet_file = io.BytesIO(), io.BytesIO()
    write_tables(table, csv_file, parquet_file)
    assert csv_file.getvalue() == to_csv(table)
    assert pd.read_parquet(io.BytesIO(parquet_file.getvalue()))["a"].to_list() == table["a"].to_list()


def test_latex_is_a_table_with_rules_and_escapes() -> None:
    table = Table(header=["name", "a_b"], rows=[["50 % & more", "−1.0 ± 0.2"]])
    assert table_latex(table) == (
        "% needs \\usepackage{booktabs}\n\\begin{tabular}{lr}\n\\toprule\nname & a\\_b \\\\\n\\midrule\n"
        "50 \\% \\& more & $-$1.0 $\\pm$ 0.2 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


@given(st.text(st.one_of(st.sampled_from("\\&%$#_{}~^"), st.characters())))
def test_no_text_commands_latex(text: str) -> None:
    """Every backslash is one that was put there before a special letter or a known command."""
    made = latex_text(text)
    for command in (
        "textbackslash{}",
        "textasciitilde{}",
        "textasciicircum{}",
        "textless{}",
        "textgreater{}",
        "textbar{}",
        "textquotedbl{}",
    ):
        made = made.replace(f"\\{command}", "")
    for symbol in (
        r"$\pm$",
        "$-$",
        r"$\lambda$",
        r"$\rho$",
        r"$\rightarrow$",
        r"$\times$",
        r"\&",
        r"\%",
        r"\$",
        r"\#",
        r"\_",
        r"\{",
        r"\}",
    ):
        made = made.replace(symbol, "")
    assert not set(made) & set("\\&%$#_{}~^")
