"""Tables as LaTeX; every text is escaped."""

from __future__ import annotations

from sconv_search.reports.document.blocks import Table
from sconv_search.reports.wording import one_line

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    '"': r"\textquotedbl{}",
}


def latex_text(text: str) -> str:
    """The text on one line, with nothing in it that LaTeX would act on."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def table_latex(table: Table) -> str:
    """The table as a ``tabular`` with the rules of booktabs."""
    columns = "".join("r" if table.is_number(column) else "l" for column in range(len(table.header)))
    lines = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in (table.header, *table.rows)]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"
