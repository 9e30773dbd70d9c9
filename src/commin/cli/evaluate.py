"""``commin evaluate SWEEP.yaml -o DIR``: systems × ρ × SNRs × seeds × pictures, resumable, on any number of workers."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from commin.evaluation.workers import Workers


def evaluate(
    sweep: Annotated[Path, typer.Argument(help="The sweep, a YAML file.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the records; what it holds is not repeated.")],
    data: Annotated[Path | None, typer.Option(help="Folder or zip; else the sweep's, or COMMIN_DATA.")] = None,
    train_data: Annotated[
        Path | None,
        typer.Option(help="Folder or zip whose train split reference systems are fitted to; else the data."),
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes, or ray (RAY_ADDRESS, else a local cluster).")] = "1",
    batch: Annotated[int, typer.Option(min=1, help="Pictures sent and restored together.")] = 16,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Run a sweep, or the rest of it. Kill it at will; run it again to go on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from commin.cli.devices import torch_device
    from commin.cli.options import output_folder, warn_of_loss
    from commin.evaluation.bench import Spec
    from commin.evaluation.config import read_sweep
    from commin.evaluation.features import all_distances
    from commin.evaluation.results import read_results
    from commin.evaluation.sweep import run_sweep
    from commin.evaluation.table import as_text, summarise, write_csv
    from commin.home import data_path

    config = read_sweep(sweep)
    hands = _workers(workers)
    torch_device(device)
    place = data_path(data or (Path(config.data) if config.data else None))
    other = train_data or (Path(config.train_data) if config.train_data else None)
    folder = output_folder(out)
    warn_of_loss(config.systems)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("records, left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(sweep.stem, total=None)
        try:
            skipped = run_sweep(
                Spec(config, place, device, other and other.expanduser()), folder, hands, batch,
                lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        except KeyboardInterrupt:
            bar.stop()
            print("stopped; the same command goes on", file=sys.stderr)
            raise typer.Exit(130) from None
    if any(folder.glob("records*.jsonl")):
        rows = summarise(read_results(folder), all_distances(folder))
        write_csv(rows, folder / "table.csv")
        print(as_text(rows))
        print(f"records: {folder}, table: {folder / 'table.csv'}")
    _report(skipped)


def _workers(text: str) -> "Workers":
    from commin.errors import UserError

    if text == "ray":
        return "ray"
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers {text}: give a number of processes from 1 on, or ray")
    return int(text)


def _report(skipped: Counter[str]) -> None:
    if skipped:
        for reason, count in skipped.most_common():
            print(f"commin: skipped {count}: {reason}", file=sys.stderr)
        print(f"commin: {sum(skipped.values())} records skipped; run again to try these alone", file=sys.stderr)
        raise typer.Exit(2)
