"""Faces in any photo, framed as the training pictures are: a cascade detector on the photo turned by a few angles.

Haar cascades know upright frontal faces only (Viola and Jones, CVPR 2001; Lienhart and Maydt, ICIP 2002), so the photo
is searched at each of `ANGLES`, and boxes of different angles that lie on one another are one face: its tilt and place
are their mean, weighted by how sure the cascade is. The training crop has the middle of the eyes at `EYES` of its side;
the cascade's box of such a face has its centre at `BOX_CENTRE` and measures `BOX_SIDE`, medians over 150 faces of
CelebA's training split.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from commin.errors import UserError
from commin.images import Box, crop_box

if TYPE_CHECKING:
    import cv2
    from numpy.typing import NDArray

ANGLES = (-16, -8, 0, 8, 16)
"""Degrees, clockwise positive, by which faces are looked for."""

EYES = (0.5, 0.517)
BOX_CENTRE = (0.5, 0.598)
BOX_SIDE = 0.685

SEARCH_SIDE = 480
"""Pixels of the photo's longer side while it is searched."""

SMALLEST = 0.1
"""A face's box must be this much of the photo's shorter side."""

SURE = 0.6
"""What looks like a face less than this share as surely as the surest one is none; sureness adds over the angles."""

MOST = 8
"""Faces that are offered."""


@dataclass(frozen=True)
class Face:
    """A face: its frame in pixels of the photo, the middle of its eyes (x, y), its tilt in degrees, how sure it is."""

    box: Box
    eyes: tuple[float, float]
    tilt: float
    score: float


@dataclass(frozen=True)
class _Hit:
    """One box of the cascade, in pixels of the photo: centre, side, the angle and its confidence."""

    x: float
    y: float
    side: float
    angle: float
    weight: float


def find_faces(photo: Image.Image) -> list[Face]:
    """The faces of an upright RGB photo, the largest first, at most `MOST`.

    Raises:
        UserError: the face finder is not installed.
    """
    cascade = _cascade()
    scale = min(1.0, SEARCH_SIDE / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    grey = np.asarray(photo.convert("L").resize(size, Image.Resampling.BILINEAR))
    hits = [hit for angle in ANGLES for hit in _search(cascade, grey, angle, photo.width / size[0])]
    faces = [_face(group) for group in _groups(hits)]
    best = max((face.score for face in faces), default=0.0)
    sure = [face for face in faces if face.score >= SURE * best]
    return sorted(sure, key=lambda face: face.box.left - face.box.right)[:MOST]


def face_or_centre(photo: Image.Image) -> tuple[Box, str]:
    """The frame of the largest face, or the central square, and a line that says which.

    Raises:
        UserError: the face finder is not installed.
    """
    faces = find_faces(photo)
    if not faces:
        return crop_box(*photo.size, "centre"), "no face found; cropped to the centre"
    return faces[0].box, "1 face found" if len(faces) == 1 else f"{len(faces)} faces found; the largest taken"


@cache
def _cascade() -> "cv2.CascadeClassifier":
    try:
        import cv2
    except ImportError:
        raise UserError("finding faces needs OpenCV; install it with: pip install 'commin[faces]'") from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise UserError("finding faces needs OpenCV below 5; install it with: pip install 'commin[faces]'")
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))


def _search(cascade: "cv2.CascadeClassifier", grey: "NDArray[np.uint8]", angle: float, unit: float) -> list[_Hit]:
    """Hits on the photo turned anticlockwise by ``angle``, in which a face tilted clockwise by it stands upright."""
    import cv2

    height, width = grey.shape
    margin = round(0.15 * max(height, width))  # a face at the edge of the photo may be cut a little
    tall, wide = height + 2 * margin, width + 2 * margin
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    turn[:, 2] += margin
    turned = cv2.warpAffine(grey, turn, (wide, tall), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    least = max(20, round(SMALLEST * min(height, width)))
    boxes, _, weights = cascade.detectMultiScale3(turned, 1.1, 2, 0, (least, least), outputRejectLevels=True)
    back = cv2.invertAffineTransform(turn)
    hits = []
    for (left, top, side, _), weight in zip(boxes, np.ravel(weights), strict=True):
        x, y = back @ (left + side / 2, top + side / 2, 1.0)
        hits.append(_Hit(float(x) * unit, float(y) * unit, float(side) * unit, angle, float(weight)))
    return hits


def _groups(hits: list[_Hit]) -> list[list[_Hit]]:
    """Hits that lie on one another, around the surest first."""
    groups: list[list[_Hit]] = []
    for hit in sorted(hits, key=lambda hit: -hit.weight):
        for group in groups:
            first = group[0]
            if math.hypot(hit.x - first.x, hit.y - first.y) < 0.5 * max(hit.side, first.side):
                group.append(hit)
                break
        else:
            groups.append([hit])
    return groups


def _face(group: list[_Hit]) -> Face:
    """The weighted mean of hits, framed as the training crop."""
    near = [hit for hit in group if 0.67 < hit.side / group[0].side < 1.5]
    weights = np.array([max(hit.weight, 1e-3) for hit in near])
    values = np.array([(hit.x, hit.y, hit.side, hit.angle) for hit in near])
    x, y, side, tilt = (float(value) for value in weights @ values / weights.sum())
    frame = side / BOX_SIDE
    up = (BOX_CENTRE[1] - EYES[1]) * frame
    eyes = (x + up * math.sin(math.radians(tilt)), y - up * math.cos(math.radians(tilt)))
    left, top = eyes[0] - EYES[0] * frame, eyes[1] - EYES[1] * frame
    return Face(Box(left, top, left + frame, top + frame), eyes, tilt, float(sum(hit.weight for hit in group)))
