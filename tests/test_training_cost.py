"""Costs are counted without computing, and are those of the computation; the paper's recipes are well formed."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from commin.evaluation.config import SweepConfig
from commin.training.cost import Cost, training_cost
from commin.training.kinds import KINDS
from commin.training.recipe import parse, read_yaml
from tests.test_training_ranks import make_run

RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "paper").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["codec", "inn", "prior"])
def test_counted_flops_are_those_of_a_step(kind: str, codec_file: Path, tmp_path: Path) -> None:
    run = make_run(kind, codec_file, tmp_path)
    with FlopCounterMode(display=False) as counter:
        run.train_step()
    cost = training_cost(make_run(kind, codec_file, tmp_path).trainable, 32)
    assert cost.flops == pytest.approx(counter.get_total_flops() / 8, rel=0.01)
    assert cost.parameters == sum(p.numel() for p in run.trainable.phases[kind].parameters())
    assert cost.activations > 0


def test_memory_and_hours() -> None:
    cost = Cost(parameters=10, flops=1e12, activations=3.0, state=200)
    assert cost.memory(4) == 212
    assert cost.hours(3600, peak=1e15, share=0.5) == pytest.approx(0.002)


def test_activations_grow_with_the_picture(codec_file: Path, tmp_path: Path) -> None:
    small, large = (
        training_cost(make_run("codec", codec_file, tmp_path).trainable, size).activations for size in (32, 64)
    )
    assert large == pytest.approx(4 * small, rel=0.05)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_paper_recipes_are_well_formed(path: Path) -> None:
    content = read_yaml(path)
    if path.stem == "sweep":
        SweepConfig.model_validate(content)
        return
    recipe = parse(KINDS[content["kind"]].recipe, content, path)
    assert recipe.data.size == 256
    assert recipe.name == f"paper-{path.stem}"
