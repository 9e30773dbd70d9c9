"""A labelled panel: pictures side by side, enlarged, with lines of text under each."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from commin.images import to_picture


@dataclass(frozen=True)
class Cell:
    """One picture (3, H, W) in [0, 1], its title above and the lines below it."""

    image: Tensor
    title: str
    lines: tuple[str, ...] = ()


def panel(rows: Sequence[Sequence[Cell]], heading: str, side: int = 256) -> Image.Image:
    """Cells as a picture: each enlarged to about ``side`` pixels by whole multiples (large ones are reduced).

    Args:
        rows: cells, row by row; a row may be shorter than the others.
        heading: a line at the top.
        side: longer side of a shown picture in pixels.
    """
    heading = heading.replace("ρ", "BCR")  # Pillow's own font has no Greek
    font, small, gap = ImageFont.load_default(16), ImageFont.load_default(14), 12
    shown = [[_shown(cell.image, side) for cell in row] for row in rows]
    width = max(picture.width for row in shown for picture in row)
    lines = max(len(cell.lines) for row in rows for cell in row)
    text = 18 * lines
    heights = [max(picture.height for picture in row) + 24 + text + gap for row in shown]
    columns = max(len(row) for row in rows)
    total = max(gap + columns * (width + gap), int(font.getlength(heading)) + 2 * gap)
    sheet = Image.new("RGB", (total, 30 + gap + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), heading, "black", font)
    top = 30 + gap
    for row, pictures, height in zip(rows, shown, heights, strict=True):
        for column, (cell, picture) in enumerate(zip(row, pictures, strict=True)):
            left = gap + column * (width + gap)
            draw.text((left, top), cell.title, "black", font)
            sheet.paste(picture, (left, top + 24))
            for index, line in enumerate(cell.lines):
                draw.text((left, top + 26 + picture.height + 18 * index), line, "#444444", small)
        top += height
    return sheet


def _shown(image: Tensor, side: int) -> Image.Image:
    picture = to_picture(image)
    longest = max(picture.size)
    if longest > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        return picture
    scale = side // longest
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
