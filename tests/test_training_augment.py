"""Random changes of training pictures: what each does, within which bounds."""

import pytest
import torch

from commin.training.augment import changed, draw_changes
from commin.training.recipe import LoopConfig
from tests.conftest import smooth_images

IMAGES = smooth_images(64, 32)


def config(flip: bool = False, shift: int = 0, colour: float = 0.0) -> LoopConfig:
    return LoopConfig(images=1, flip=flip, shift=shift, colour=colour)


def augmented(chosen: LoopConfig, seed: int = 0) -> torch.Tensor:
    drawn = draw_changes(chosen, len(IMAGES), torch.Generator().manual_seed(seed))
    return changed(IMAGES, chosen.shift, drawn)


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(augmented(config()), IMAGES)


def test_a_flip_is_a_mirror() -> None:
    done = augmented(config(flip=True))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(done, IMAGES, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(done, IMAGES, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


def test_a_shift_moves_by_whole_pixels_both_ways() -> None:
    done, found = augmented(config(shift=2)), set()
    for new, old in zip(done, IMAGES, strict=True):
        inner = new[:, 4:-4, 4:-4]
        every = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        moves = [(y, x) for y, x in every if torch.equal(inner, old[:, 4 + y : 28 + y, 4 + x : 28 + x])]
        assert len(moves) == 1
        found |= set(moves)
    assert {y for y, _ in found} == {x for _, x in found} == {-2, -1, 0, 1, 2}


def test_colour_is_a_gain_of_each_channel_within_its_bound() -> None:
    done = augmented(config(colour=0.2))
    assert done.min() >= 0
    assert done.max() <= 1
    gains = (done.double().sum((2, 3)) / IMAGES.double().sum((2, 3))).log()
    assert gains.abs().max() <= 0.2 + 1e-6
    assert gains.std() > 0.05


def test_the_same_draws_make_the_same_pictures() -> None:
    chosen = config(True, 3, 0.3)
    assert torch.equal(augmented(chosen), augmented(chosen))
    assert not torch.equal(augmented(chosen), augmented(chosen, 1))


@pytest.mark.parametrize("wrong", [{"shift": 16}, {"shift": -1}, {"colour": 2}])
def test_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be"):
        LoopConfig.model_validate({"images": 1} | wrong)
