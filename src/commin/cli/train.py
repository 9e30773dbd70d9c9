"""``commin train KIND RECIPE.yaml``: train a model in a run folder, stop and resume at will."""

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from commin.training.loop import Run
    from commin.training.reader import Pixels
    from commin.training.recipe import Recipe


def train(
    kind: Annotated[str, typer.Argument(help="What to train: codec, inn, prior, gan, decoder, flow or one-step.")],
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    data: Annotated[Path | None, typer.Option(help="Folder or zip of images; else COMMIN_DATA.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Where run folders live; else COMMIN_HOME/runs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run of this recipe's name.")] = False,
    images: Annotated[
        int | None, typer.Option(help="See this many images in all, instead of the recipe's number.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print size, cost and expected time.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch.")] = 0,
) -> None:
    """Train a model by a recipe. Ctrl-C saves and stops; --resume goes on bit for bit.

    Under a launcher (torchrun --nproc-per-node N -m commin train ...) the processes share each batch.
    """
    import torch

    from commin.cli.devices import torch_device
    from commin.errors import UserError
    from commin.home import home
    from commin.training import ranks
    from commin.training.kinds import KINDS
    from commin.training.recipe import parse, read_yaml

    content = read_yaml(recipe)
    if kind not in KINDS:
        raise UserError(f"train {kind}: unknown kind; choose {', '.join(KINDS)}")
    if content.get("kind") != kind:
        raise UserError(f"{recipe}: is a recipe of kind {content.get('kind')!r}, not {kind!r}")
    config = parse(KINDS[kind].recipe, content, recipe)
    if images is not None:
        loop = config.loop.model_copy(update={"images": images})
        config = config.model_copy(update={"loop": loop})
    if threads:
        torch.set_num_threads(threads)
    folder = (runs or home() / "runs").expanduser() / config.name
    with ranks.job(torch_device(device)) as target:
        if not dry_run and ranks.rank() == 0:
            _prepare(folder, recipe, resume)
        _train(config, data, folder, target, resume, dry_run)


def _train(
    config: "Recipe", data: Path | None, folder: Path, target: "torch.device", resume: bool, dry_run: bool
) -> None:
    import torch
    from rich.console import Console

    from commin.data.imageset import ImageSet, load_pixels, split_hash
    from commin.data.stream import Stream
    from commin.home import data_path, home
    from commin.training import ranks
    from commin.training.kinds import KINDS
    from commin.training.loop import Run

    console = Console(stderr=True, quiet=ranks.rank() > 0)
    source = ImageSet(data_path(data or (Path(config.data.path) if config.data.path else None)))
    entries = source.split(config.data.split, config.data.limit)
    held_out = source.split(config.data.validation_split, config.data.validation_limit)
    with console.status("reading images"), ranks.first_alone():
        shape = (config.data.size, config.data.crop)
        validation = load_pixels(source, held_out, *shape, home() / "cache")
        pixels: Pixels = (
            Stream(source, entries, *shape, config.data.workers)
            if config.data.stream
            else load_pixels(source, entries, *shape, home() / "cache")
        )
    kind = KINDS[config.kind]
    trainable = kind.make(config, validation)
    if kind.prepare is not None:
        pixels = kind.prepare(trainable, pixels, None if dry_run else folder, target, console)
    run = Run(trainable, config.loop, pixels, folder, target)
    if dry_run:
        _report(run, console)
        return
    if resume:
        run.resume()
        console.print(f"resumed at {run.images_seen:,} images")
    if ranks.rank() == 0:
        about = {
            "data": source.path.name, "split": split_hash(entries), "images": len(entries), "torch": torch.__version__,
            "processes": ranks.size(),
        }  # fmt: skip
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    console.print(f"run folder {folder}")
    finished = run.train(console)
    console.print("finished" if finished else f"stopped and saved at {run.images_seen:,} images; go on with --resume")


def _prepare(folder: Path, recipe: Path, resume: bool) -> None:
    from commin.errors import UserError
    from commin.training.checkpoint import listed

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if listed(folder) and not resume:
            raise UserError(f"{folder}: holds a run already; go on with --resume, or rename it")
        shutil.copyfile(recipe, folder / "recipe.yaml")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def _report(run: "Run", console: "Console") -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for name, module in run.trainable.phases.items():
        console.print(f"{name}: {sum(p.numel() for p in module.parameters()):,} parameters")
    run.train_step()
    with FlopCounterMode(display=False) as counter:
        run.train_step()
    begin = time.monotonic()
    steps = 3
    for _ in range(steps):
        run.train_step()
    speed = steps * run.config.batch / (time.monotonic() - begin)
    gflop = counter.get_total_flops() / run.config.batch / 1e9
    console.print(f"training: {gflop:.2f} GFLOP an image, {speed:.1f} images/s, {gflop * speed:.0f} GFLOP/s")
    console.print(
        f"{run.config.images:,} images: about {run.config.images / speed / 3600:.1f} h, validation not counted"
    )
