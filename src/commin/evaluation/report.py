"""A report: one HTML page that needs no other file, with the tables and figures of a sweep."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from commin.evaluation.table import HEADER, Row, cells

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#111}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}
img{max-width:100%}figure{margin:2rem 0}figcaption{color:#444}"""

NOTES = """Intervals are 95 % bootstrap intervals over persons. SNR is per complex symbol, power normalised for each
picture. LPIPS is lower-is-better and comparable only for one backbone and picture size. Systems are compared within a
class: <b>plain</b> never saw LPIPS, <b>lpips</b> did in its loss, <b>reference</b> are fitted to the train split. A
gain in LPIPS counts only beyond <b>retrieval</b>. N is pictures / persons; "of MSE" is the PSNR of the mean squared
error, which is what lines give."""


def page(title: str, rows: Sequence[Row], pictures: Sequence[Path], kernel_real: float | None) -> str:
    """The page as HTML.

    Args:
        title: its heading.
        rows: the table.
        pictures: PNG files, in this order, each under its own name.
        kernel_real: the real-to-real kernel distance of the originals; None where it was not measured.
    """
    figures = "".join(
        f'<figure><img alt="{escape(path.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{escape(path.stem)}</figcaption></figure>\n'
        for path in pictures
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells(row)) + "</tr>" for row in rows)
    real = "" if kernel_real is None else f"<p>Kernel distance of the originals: {kernel_real:.4g}.</p>"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>\n'
        f"<h1>{escape(title)}</h1>\n{figures}<h2>Table</h2>\n<p>{NOTES}</p>\n{real}"
        f"<table><tr>{head}</tr>\n{body}\n</table>\n</html>\n"
    )
