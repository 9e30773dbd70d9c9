"""InverseJSCC measured: can the search find what it should, what does it make of the link, how long does it take.

usage: python benchmarks/inverse.py [--data FOLDER|ZIP] [--generator FILE] [--settings FILE] [--pictures N] [--batch 4]
       [--only sanity,ceiling,points,ablation,time,quality,tune] [--rows TEXT] [--out results/inverse.json]
* sanity: pictures generated from a known w, no channel: LPIPS, and the share of LPIPS ≤ 0.05.
* ceiling: clean test pictures: the best that the generator can show.
* points: nine points, ρ × SNR, beside DeepJSCC, with 95 % intervals over identities.
* ablation: w alone, layers too, noise maps too, at three points.
* time: seconds a picture, one at a time, beside deepjscc, commin-fast and commin (counted up from 20 calls, or all by
  --literal); LPIPS against 10, 30, 100, 300, 1000 steps.
* quality: kernel and Fréchet distance of generated pictures to 5,000 of the train split, beside the prior's and others
  of that split.
* tune: a grid (--ratios, --phases "150;50,50,25,25", --rates, --weights) on ``valid``; of all that --out then holds the
  best for each ρ goes to --tuned FILE, for commin zoo add FILE --model faces64 --kind inverse-jscc
--rows "1/12" makes only the rows with that in their names, so that a part can be shared out over machines or cores.
Without --generator and --settings those of the zoo are taken. A killed run goes on: rows that --out holds are kept, as
long as they were made with the same files and numbers. Pictures are the first of their split.
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from inverse_bench import MODEL, RATIOS, Bench, Row, Tasks
from inverse_quality import quality_tasks
from inverse_rows import ablation_tasks, ceiling_tasks, points_tasks, sanity_tasks
from inverse_time import time_tasks
from inverse_tune import make_grid, tune_tasks, write_best

import commin
from commin.atomic import write_text
from commin.data.imageset import ImageSet
from commin.home import data_path
from commin.receivers.commin_table import read_settings
from commin.receivers.inverse_jscc import InverseSettings
from commin.stylegan2.files import load_generator
from commin.zoo.cards import find_card, sha256
from commin.zoo.fetch import find
from commin.zoo.load import codec_path

PARTS: dict[str, tuple[Callable[[Bench], Tasks], int]] = {
    "sanity": (sanity_tasks, 50), "ceiling": (ceiling_tasks, 100), "points": (points_tasks, 92),
    "ablation": (ablation_tasks, 24), "time": (time_tasks, 8), "quality": (quality_tasks, 460), "tune": (tune_tasks, 8),
}  # fmt: skip
"""Each part's tasks, and on how many pictures unless --pictures says otherwise."""


def zoo_file(kind: str) -> Path | None:
    card = find_card(MODEL, kind)
    return find(card.name) if card else None


def line(name: str, row: Row) -> str:
    cells = (f"{key} {value}" for key, value in row.items() if key != "search" and not key.endswith("interval"))
    return f"{name}: {', '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--generator", type=Path, default=zoo_file("generator"))
    parser.add_argument("--settings", type=Path, default=zoo_file("inverse-jscc"))
    parser.add_argument("--only", default="sanity,ceiling,points,ablation,time,quality")
    parser.add_argument("--rows", default="", help="only those with this text in their names")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--literal", action="store_true")
    parser.add_argument("--ratios", default=",".join(RATIOS), help="those that are tuned")
    parser.add_argument("--phases", default="50;150;50,50;50,50,25,25")
    parser.add_argument("--rates", default="0.1")
    parser.add_argument("--weights", default="0,0.1,0.3,1")
    parser.add_argument("--tuned", type=Path, default=Path("inverse-jscc.json"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.generator is None:
        parser.error("--generator: the zoo has none yet; give the file of one")
    if unknown := set(options.only.split(",")) - PARTS.keys():
        parser.error(f"--only {', '.join(unknown)}: choose among {', '.join(PARTS)}")
    settings = read_settings(InverseSettings, options.settings) if options.settings else InverseSettings()
    grid = make_grid(options.ratios, options.phases, options.rates, options.weights)
    bench = Bench(
        ImageSet(data_path(options.data)), load_generator(options.generator), settings, grid, 0, options.batch,
        options.seed, options.literal,
    )  # fmt: skip
    files = [codec_path(MODEL), options.generator, *([options.settings] if options.settings else [])]
    about = {
        "data": bench.source.path.name, "batch": options.batch, "seed": options.seed, "commin": commin.__version__,
        "torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "weights": {path.name: sha256(path) for path in files},
    }  # fmt: skip
    kept: dict[str, Any] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in options.only.split(","):
        make, usual = PARTS[name]
        count = options.pictures or usual
        known = about | {"pictures": count}
        if kept.get(name, {}).get("about") != known:
            kept[name] = {"about": known, "rows": {}}
        rows: dict[str, Row] = kept[name]["rows"]
        for task, work in make(replace(bench, pictures=count)).items():
            if task not in rows and options.rows in task:
                rows[task] = work()
                print(f"{name}: {line(task, rows[task])}", flush=True)
                save(kept, options.out)
        if name == "tune":
            write_best(rows, options.tuned)


def save(content: dict[str, Any], path: Path | None) -> None:
    if path:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
