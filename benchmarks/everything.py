"""All that results/ holds of the trained weights, measured anew: after a network or settings have changed.

usage: python benchmarks/everything.py [--after prior,codec] [--ffhq FOLDER] [--list] -o FOLDER
       python benchmarks/everything.py --publish -o FOLDER
--after names what has changed (codec, decoder, inn, prior, flow, generator, settings); what rests on none of it is left
out. FOLDER gets what results/ has, and a log of each; a killed run goes on, and several may share FOLDER, say one for
each core: each takes what nobody has taken. The faces of another data set (--ffhq) are made by

    commin data prepare FFHQ FOLDER --size 256 --valid 24 --test 40

--publish copies what is done into results/, without features; then ``benchmarks/tables.py --write`` makes the tables.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ("sweep.json", "table.csv", "kernel.json")
LINK = {"codec", "inn", "prior", "settings"}
PARTS = {*LINK, "decoder", "flow", "generator"}
INNS = sorted((ROOT / "src/commin/zoo/weights").glob("faces64-inn-*.safetensors"))

STEPS: dict[str, tuple[set[str], list[str]]] = {
    "codec.json": ({"codec"}, ["codec.py", "--out"]),
    "codec_train.json": ({"codec"}, ["codec.py", "--split", "train", "--limit", "1000", "--no-lines", "--out"]),
    "codec_valid.json": ({"codec"}, ["codec.py", "--split", "valid", "--no-lines", "--out"]),
    "codec_refined.json": ({"codec"}, ["codec.py", "--refine", "30", "--out"]),
    "inn.json": ({"codec", "inn"}, ["inn.py", *map(str, INNS), "--pictures", "230", "--out"]),
    "faces64": ({*LINK, "decoder"}, ["faces64.yaml"]),
    "faces64-rivals": (PARTS - {"generator"}, ["faces64-rivals.yaml"]),
    "faces64-refined": ({*LINK, "decoder"}, ["faces64-refined.yaml"]),
    "faces64-ffhq": ({*LINK, "decoder"}, ["faces64-ffhq.yaml"]),
    "faces64-mismatch": ({*LINK, "decoder"}, ["faces64-mismatch.yaml"]),
    "faces64-separation": ({"codec"}, ["faces64-separation.yaml"]),
    "faces64-cliff": ({"codec"}, ["faces64-cliff.yaml"]),
    "faces64-cliff-fixed": ({"codec"}, ["faces64-cliff-fixed.yaml"]),
    "receivers.json": (LINK, ["receivers.py", "--only", "inn,ablations,calls", "--pictures", "46", "--out"]),
    "ideals.json": (LINK, ["ideals.py", "--out"]),
    "inverse.json": (
        {"codec", "generator"}, ["inverse.py", "--only", "points", "--pictures", "460", "--batch", "16", "--out"]
    ),
}  # fmt: skip
"""Name in results/: what it rests on, and the benchmark or sweep that makes it."""


def command(name: str, folder: Path, ffhq: Path | None) -> list[str]:
    """The command line of a step."""
    first, *rest = STEPS[name][1]
    out = str(folder / name)
    if not first.endswith(".yaml"):
        return [sys.executable, str(ROOT / "benchmarks" / first), *rest, out]
    other = ["--data", str(ffhq), "--train-data", os.environ.get("COMMIN_DATA", "")] if "ffhq" in name else []
    sweep = ROOT / "recipes/sweeps" / first
    return [sys.executable, "-m", "commin", "evaluate", str(sweep), *other, "-o", out]


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
    for claim in sorted(folder.glob("*.claim")):
        made, kept = folder / claim.stem, ROOT / "results" / claim.stem
        if claim.read_text() != "done":
            print(f"{claim.stem}: not done")
        elif made.is_file():
            shutil.copyfile(made, kept)
        else:
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            for name in KEPT:
                shutil.copyfile(made / name, kept / name)
            lines = b"".join(path.read_bytes() for path in sorted(made.glob("records-*.jsonl")))
            (kept / "records-0.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))


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
        line = command(name, options.out, options.ffhq)
        claim = options.out / f"{name}.claim"
        if not parts & changed:
            continue
        if "ffhq" in name and options.ffhq is None:
            print(f"{name}: left out, give --ffhq")
        elif options.list:
            print(" ".join(line))
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
