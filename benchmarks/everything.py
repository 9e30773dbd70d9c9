"""All that results/ holds of the trained weights, measured anew: after a network or settings have changed.

usage: python benchmarks/everything.py [--after prior,codec] [--ffhq FACES] [--list] -o FOLDER
       python benchmarks/everything.py --publish -o FOLDER
--after names what has changed (codec, decoder, inn, prior, flow, one-step, finish, generator, settings); what rests on
none of it is left out. FOLDER gets what results/ has, and a log of each; a killed run goes on, and several may share
it, say one for each core: each takes what nobody has taken. --ffhq is a folder or zip of faces of another data set
(without a manifest all are taken). --publish copies what is done into results/, without features, and its figures into
docs/images/; the tables are then made by ``benchmarks/tables.py --write``.
"""

import argparse
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from commin.evaluation.drawing import draw

ROOT = Path(__file__).parents[1]
KEPT = ("sweep.json", "table.csv", "kernel.json", "kernel_to_originals.json")
LINK = {"codec", "inn", "prior", "settings"}
FAST = {*LINK, "finish"}
PARTS = {*FAST, "decoder", "flow", "one-step", "generator"}
FIGURES = {
    "faces64": ("quality-awgn", "quality"),
    "faces64-rivals": ("time", "rivals"),
    "faces64-mismatch": ("mismatch-awgn-1-48", "mismatch"),
    "faces64-separation": ("quality-awgn", "separation"),
    "faces64-cliff": ("quality-awgn", "crossover"),
    "faces64-cliff-fixed": ("quality-awgn-made-for+0dB", "cliff"),
}
"""Of a sweep, the figure of ``commin plot`` that docs/images has, and its name there."""

INNS = sorted((ROOT / "src/commin/zoo/weights").glob("faces64-inn-*.safetensors"))

STEPS: dict[str, tuple[set[str], str]] = {
    "codec.json": ({"codec"}, "codec.py --out {out}"),
    "codec_train.json": ({"codec"}, "codec.py --split train --limit 1000 --no-lines --out {out}"),
    "codec_valid.json": ({"codec"}, "codec.py --split valid --no-lines --out {out}"),
    "codec_refined.json": ({"codec"}, "codec.py --refine 30 --out {out}"),
    "inn.json": ({"codec", "inn"}, "inn.py {inns} --pictures 230 --out {out}"),
    "faces64": ({*FAST, "decoder", "one-step"}, "faces64.yaml"),
    "faces64-rivals": ({*FAST, "decoder", "flow", "one-step"}, "faces64-rivals.yaml"),
    "faces64-refined": ({*FAST, "decoder"}, "faces64-refined.yaml"),
    "faces64-ffhq": ({*FAST, "decoder", "one-step"}, "faces64-ffhq.yaml"),
    "faces64-mismatch": ({*FAST, "decoder"}, "faces64-mismatch.yaml"),
    "faces64-separation": ({"codec"}, "faces64-separation.yaml"),
    "faces64-cliff": ({"codec"}, "faces64-cliff.yaml"),
    "faces64-cliff-fixed": ({"codec"}, "faces64-cliff-fixed.yaml"),
    "receivers.json": ({*FAST, "one-step"}, "receivers.py --only ablations,calls --out {out}"),
    "honesty.json": (FAST, "honesty.py --out {out}"),
    "ideals.json": (LINK, "ideals.py --out {out}"),
    "inverse.json": ({"codec", "generator"}, "inverse.py --only points --pictures 460 --batch 16 --out {out}"),
    "copies.json": (
        {*FAST, "decoder", "flow", "one-step"},
        "copies.py --json {out} --figure {folder}/copies.png -o {folder}/faces",
    ),
}
"""Name in results/: what it rests on, and the benchmark or sweep that makes it."""


def command(name: str, folder: Path, ffhq: Path | None) -> list[str]:
    """The command line of a step."""
    what, out = STEPS[name][1], folder / name
    if what.endswith(".yaml"):
        other = ["--data", str(ffhq), "--train-data", os.environ.get("COMMIN_DATA", "")] if "ffhq" in name else []
        return [sys.executable, "-m", "commin", "evaluate", str(ROOT / "recipes/sweeps" / what), *other, "-o", str(out)]
    inns = shlex.join(str(path) for path in INNS)
    names = {"out": shlex.quote(str(out)), "folder": shlex.quote(str(folder)), "inns": inns}
    first, *rest = shlex.split(what.format(**names))
    return [sys.executable, str(ROOT / "benchmarks" / first), *rest]


def taken(claim: Path) -> bool:
    """Whether a step is done or a process that lives works at it; otherwise it is this one's from now on."""
    try:
        with claim.open("x") as file:
            file.write(str(os.getpid()))
        return False
    except FileExistsError:
        text = claim.read_text()
    if text == "done" or (text.isdigit() and alive(int(text))):
        return True
    claim.write_text(str(os.getpid()))
    return False


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def publish(folder: Path) -> None:
    """What is done, to results/ and docs/images/."""
    images = ROOT / "docs/images"
    for claim in sorted(folder.glob("*.claim")):
        made, kept = folder / claim.stem, ROOT / "results" / claim.stem
        if claim.read_text() != "done" or not made.exists():
            print(f"{claim.stem}: not done")
        elif made.is_file():
            shutil.copyfile(made, kept)
        else:
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            for name in KEPT:
                shutil.copyfile(made / name, kept / name)
            lines = b"".join(path.read_bytes() for path in sorted(made.glob("records-*.jsonl")))
            (kept / "records-0.jsonl.xz").write_bytes(lzma.compress(lines, preset=9))
            if kept.name in FIGURES:
                (drawn, name), figures = FIGURES[kept.name], folder / "figures" / kept.name
                figures.mkdir(parents=True, exist_ok=True)
                draw(kept, figures)
                shutil.copyfile(figures / f"{drawn}.png", images / f"{name}.png")
    if (folder / "copies.png").exists():
        shutil.copyfile(folder / "copies.png", images / "copies.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", default=",".join(sorted(PARTS)))
    parser.add_argument("--ffhq", type=Path)
    parser.add_argument("--list", action="store_true", help="print the commands only")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    changed = set(options.after.split(","))
    if changed - PARTS:
        parser.error(f"--after: choose among {', '.join(sorted(PARTS))}")
    if options.publish:
        publish(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (parts, _) in STEPS.items():
        if not parts & changed:
            continue
        line, claim = command(name, options.out, options.ffhq), options.out / f"{name}.claim"
        if "ffhq" in name and options.ffhq is None:
            print(f"{name}: left out, give --ffhq")
        elif options.list:
            print(shlex.join(line))
        elif not taken(claim):
            begun, before = time.monotonic(), ROOT / "results" / name
            if before.is_file() and not (options.out / name).exists():
                shutil.copyfile(before, options.out / name)  # rows of the same files are kept, and other parts
            with (options.out / f"{name}.log").open("a") as log:
                code = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
            print(f"{name}: {(time.monotonic() - begun) / 60:.1f} min, exit code {code}", flush=True)
            claim.write_text("failed" if code else "done")


if __name__ == "__main__":
    main()
