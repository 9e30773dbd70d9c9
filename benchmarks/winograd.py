"""Winograd's convolutions beside torch's own, in float32 on a CPU: layers of a recipe's network, a training step.

usage: python benchmarks/winograd.py RECIPE.yaml [--batch 32] [--repeats 5] [--out results/winograd.json]

The two take turns; median milliseconds of CPU time in one thread, so that other work on the machine counts for little.
A layer is timed forward and backward, at the size that it has in the network; the step is all, the optimizer included.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from commin.atomic import write_text
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import LoopConfig, parse, read_yaml
from commin.winograd import WinogradConv2d, quicken

Row = dict[str, object]


def milliseconds(ways: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU time of each, taking turns, after one turn that does not count."""
    taken: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for way, times in zip(ways, taken, strict=True):
            begin = time.thread_time()
            way()
            if turn:
                times.append(1e3 * (time.thread_time() - begin))
    return [statistics.median(times) for times in taken]


def row(name: str, ways: list[Callable[[], object]], repeats: int) -> Row:
    plain, quick = milliseconds(ways, repeats)
    print(f"{name:34} plain {plain:8.1f} ms, Winograd {quick:8.1f} ms, {plain / quick:.2f} times", flush=True)
    return {"name": name, "plain_ms": round(plain, 2), "winograd_ms": round(quick, 2), "gain": round(plain / quick, 3)}


def made(recipe: Path, batch: int) -> Run:
    """A run of the recipe in float32, the plain way, on random pictures; it keeps nothing."""
    content = read_yaml(recipe)
    config = parse(KINDS[content["kind"]].recipe, content, recipe)
    pixels = torch.randint(256, (batch, 3, config.data.size, config.data.size), dtype=torch.uint8)
    loop = LoopConfig.model_validate(config.loop.model_dump() | {"batch": batch, "precision": "float32"})
    return Run(KINDS[config.kind].make(config, pixels[:2]), loop, pixels, Path(), torch.device("cpu"))


def both(layer: WinogradConv2d, shape: torch.Size) -> list[Callable[[], object]]:
    """Forward and backward of a layer at the size of its input, the plain way and Winograd's."""
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain.load_state_dict(layer.state_dict())
    images = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()

    def run(network: nn.Module) -> None:
        network(images).sum().backward()

    return [lambda: run(plain), lambda: run(layer)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [made(options.recipe, options.batch) for _ in range(2)]
    networks = runs[1].trainable.phases.values()
    for network in networks:
        quicken(network)
    layers: dict[str, tuple[WinogradConv2d, torch.Size]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, WinogradConv2d)
        name = f"{layer.in_channels} to {layer.out_channels} at {inputs[0].shape[-1]}×{inputs[0].shape[-2]}"
        layers[name] = layer, inputs[0].shape

    found = [layer for network in networks for layer in network.modules() if isinstance(layer, WinogradConv2d)]
    hooks = [layer.register_forward_hook(note) for layer in found]
    runs[1].train_step()
    for hook in hooks:
        hook.remove()
    rows = [row(name, both(*layers[name]), options.repeats) for name in sorted(layers)]
    rows.append(row("training step", [run.train_step for run in runs], options.repeats))
    if options.out:
        about = {
            "recipe": options.recipe.name, "batch": options.batch, "torch": torch.__version__, "threads": 1,
            "machine": platform.machine(),
        }  # fmt: skip
        write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
