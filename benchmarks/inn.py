"""INNs of one link side by side: what each misses of y beyond the noise, at the SNRs it was trained for.

usage: python benchmarks/inn.py MODEL.safetensors... [--codec faces64] [--data FOLDER|ZIP] [--split test]
       [--pictures 460] [--out results/inn.json]
Pictures are evenly spaced over their split, 16 draws of the noise each. Misfit E‖c − y‖², its floor E‖y − E[y|x]‖² and
E‖x − y‖² per sample; the excess over the floor in percent of the last; ``residual`` is the misfit after f⁻¹(y, d),
``replaced`` E‖f⁻¹(y, d) − x‖², printed as a share of E‖x − y‖². GFLOP of f and f⁻¹ for a picture.
"""

import argparse
import json
from pathlib import Path

import torch
from receivers import Row, pictures
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import commin
from commin.atomic import write_text
from commin.home import data_path
from commin.inn.degradation import Degradation
from commin.inn.files import load_inn
from commin.training.inn import InnRecipe, InnTraining
from commin.training.link import validation_snrs_db
from commin.zoo.cards import sha256
from commin.zoo.load import codec_path


def gflop(inn: Degradation) -> float:
    """GFLOP of f and f⁻¹ for one 64×64 picture."""
    x, snr_db = torch.zeros(1, 3, 64, 64), torch.zeros(1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        inn.replace(x, x, 1.0, snr_db)
    return counter.get_total_flops() / 1e9


def link_of(inn: Degradation, codec: str, images: Tensor) -> InnTraining:
    """The link that an INN is trained for, and these pictures to judge by; what arrives of them is made once."""
    recipe = InnRecipe.model_validate(
        {"kind": "inn", "name": "inn", "codec": codec, "model": inn.config, "loop": {"images": 1}}
    )
    return InnTraining(recipe, (images * 255).round().byte())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--codec", default="faces64")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pictures", type=int, default=460)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = pictures(options.split, options.pictures, options.data)
    rows: list[Row] = []
    links: dict[str, InnTraining] = {}
    for path in options.models:
        inn = load_inn(path)
        if inn.config.bcr not in links:
            links[inn.config.bcr] = link_of(inn, options.codec, images)
        link = links[inn.config.bcr]
        link.snrs_db = validation_snrs_db(inn.config.snr_range_db)
        figures, _ = link.validate({"inn": inn})
        row = {"model": path.stem, "sha256": sha256(path), "config": inn.config.model_dump(), "gflop": gflop(inn)}
        rows.append(row | figures)
        excess = ", ".join(f"{name[9:]} dB {value:.2f} %" for name, value in figures.items() if "%" in name)
        shares = (figures[f"replaced {snr:+g}"] / figures[f"error {snr:+g}"] for snr in link.snrs_db)
        replaced = ", ".join(f"{share:.2f}" for share in shares)
        print(f"{path.stem}: {row['gflop']:.2f} GFLOP, excess {excess}, replaced {replaced}", flush=True)
    if options.out:
        about = {
            "data": data_path(options.data).name, "split": options.split, "pictures": len(images), "seed": 0,
            "commin": commin.__version__, "torch": torch.__version__, "codec": sha256(codec_path(options.codec)),
        }  # fmt: skip
        write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
