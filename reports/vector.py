"""A figure as SVG and as PDF, laid out once for both: matplotlib spends most of its time on where texts and ticks
go.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_pdf import PdfFile, RendererPdf
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure

from sconv_search.reports.raster import DPI

# Without types in matplotlib.
_SVG: Any = RendererSVG
_PDF: Any = RendererPdf
_File: Any = PdfFile
_Mixed: Any = MixedModeRenderer
_POINTS = 72
"""To the inch, in which both files measure."""
_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def vector_files(figure: Figure) -> dict[str, bytes]:
    """The figure as ``svg`` and ``pdf``; the same figure gives the same bytes."""
    width, height = figure.get_size_inches()
    svg_file, pdf_file = io.StringIO(), io.BytesIO()
    pdf = _File(pdf_file, metadata={"CreationDate": _MOMENT})
    pdf.newPage(width, height)
    svg = _SVG(width * _POINTS, height * _POINTS, svg_file, image_dpi=DPI, metadata={"Date": None})
    both = _Both(svg, _PDF(pdf, DPI, height, width))
    usual, figure.dpi = figure.dpi, _POINTS
    try:
        figure.draw(_Mixed(figure, width, height, DPI, both))  # color bars are pictures, as matplotlib has it
    finally:
        figure.dpi = usual
    both.finalize()
    pdf.finalize()
    pdf.close()
    return {"svg": svg_file.getvalue().encode("utf-8"), "pdf": pdf_file.getvalue()}


class _Both(RendererBase):
    """Passes on what is drawn to two renderers; sizes of texts are the first one's."""

    def __init__(self, svg: Any, pdf: Any) -> None:
        super().__init__()
        self._svg, self._pdf = svg, pdf

    def draw_path(self, *args: Any, **options: Any) -> None:
        self._svg.draw_path(*args, **options)
        self._pdf.draw_path(*args, **options)

    def draw_markers(self, *args: Any, **options: Any) -> None:
        self._svg.draw_markers(*args, **options)
        self._pdf.draw_markers(*args, **options)

    def draw_path_collection(self, *args: Any, **options: Any) -> None:
        self._svg.draw_path_collection(*args, **options)
        self._pdf.draw_path_collection(*args, **options)

    def draw_image(self, *args: Any, **options: Any) -> None:
        self._svg.draw_image(*args, **options)
        self._pdf.draw_image(*args, **options)

    def draw_text(self, gc: Any, x: float, y: float, *args: Any, **options: Any) -> None:
        """Texts are placed downwards from the top in SVG, upwards from the bottom in PDF."""
        self._svg.draw_text(gc, x, y, *args, **options)
        self._pdf.draw_text(gc, x, self._svg.height - y, *args, **options)

    def new_gc(self) -> Any:
        """The PDF's, as it asks more of it."""
        return self._pdf.new_gc()

    def open_group(self, *args: Any, **options: Any) -> None:
        self._svg.open_group(*args, **options)

    def close_group(self, *args: Any) -> None:
        self._svg.close_group(*args)

    def get_text_width_height_descent(self, *args: Any) -> Any:
        return self._svg.get_text_width_height_descent(*args)

    def get_canvas_width_height(self) -> Any:
        return self._svg.get_canvas_width_height()

    def get_image_magnification(self) -> Any:
        return self._svg.get_image_magnification()

    def option_image_nocomposite(self) -> Any:
        return self._svg.option_image_nocomposite()

    def option_scale_image(self) -> Any:
        return self._svg.option_scale_image()

    def flipy(self) -> Any:
        return self._svg.flipy()

    def finalize(self) -> None:
        self._svg.finalize()
        self._pdf.finalize()
