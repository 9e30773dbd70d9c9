"""The face finder, on the public-domain example: where it is, tilted, several, none, not installed."""

import builtins
import math
from typing import Any

import pytest
from PIL import Image

from commin.cli.options import photo_box
from commin.errors import UserError
from commin.serve import faces
from commin.serve.faces import EYES, face_or_centre, find_faces
from tests.serving import EXAMPLE, example_in_a_photo

pytest.importorskip("cv2", reason="opencv-python-headless is not installed")

EYES_OF_EXAMPLE = (86, 90)
"""The middle of the eyes of examples/astronaut.png, which is framed as the training crop."""


def test_a_face_is_framed_as_the_training_crop() -> None:
    found = find_faces(example_in_a_photo())
    assert len(found) == 1
    box, eyes = found[0].box, found[0].eyes
    side = box.right - box.left
    assert side == pytest.approx(box.bottom - box.top)
    assert 0.75 < side / 172 < 1.15
    assert math.dist(eyes, (400 + EYES_OF_EXAMPLE[0], 200 + EYES_OF_EXAMPLE[1])) < 0.08 * 172
    assert (eyes[0] - box.left) / side == pytest.approx(EYES[0])
    assert (eyes[1] - box.top) / side == pytest.approx(EYES[1])


@pytest.mark.parametrize("tilt", [-15, 15])
def test_a_tilted_face_is_found_where_it_is(tilt: int) -> None:
    photo = example_in_a_photo()
    x, y = 400 + EYES_OF_EXAMPLE[0], 200 + EYES_OF_EXAMPLE[1]
    found = find_faces(photo.rotate(-tilt, Image.Resampling.BICUBIC, center=(x, y), fillcolor=(90, 110, 120)))
    assert found
    assert math.dist(found[0].eyes, (x, y)) < 0.08 * 172
    assert found[0].tilt * tilt > 0


def test_several_faces_come_largest_first() -> None:
    photo = Image.new("RGB", (900, 500), (90, 110, 120))
    face = Image.open(EXAMPLE).convert("RGB")
    photo.paste(face, (60, 60))
    photo.paste(face.resize((300, 300)), (500, 120))
    found = find_faces(photo)
    assert len(found) == 2
    assert found[0].eyes[0] > 500 > found[1].eyes[0]
    assert face_or_centre(photo) == (found[0].box, "2 faces found; the largest taken")


def test_crop_face_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    photo = example_in_a_photo()
    assert photo_box(photo, "face") == find_faces(photo)[0].box
    assert "1 face found" in capsys.readouterr().err
    assert photo_box(photo, "centre").left == 100


def test_no_face_gives_the_centre_and_says_so() -> None:
    box, note = face_or_centre(Image.new("RGB", (300, 200), "grey"))
    assert (box.left, box.top, box.right, box.bottom) == (50, 0, 250, 200)
    assert "no face found" in note


@pytest.mark.parametrize("size", [(16, 16), (1, 400), (4000, 20)])
def test_odd_shapes_do_no_harm(size: tuple[int, int]) -> None:
    assert find_faces(Image.new("RGB", size)) == []


def test_without_opencv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest, **options)

    faces._cascade.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"commin\[faces\]"):
        find_faces(Image.new("RGB", (64, 64)))
