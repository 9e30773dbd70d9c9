"""CommIN at 256×256: peak memory and seconds of each receiver, networks of the paper's size with random weights.

The codec and INN of ``recipes/paper`` at ρ = 1/192 and the U-Net of google/ddpm-celebahq-256 (114 M parameters), in
float32, one picture. Each receiver runs in a process of its own, for ``--calls`` calls of the U-Net: the memory is that
of a whole run, the seconds are of a call. Pictures mean nothing here.

usage: python -P benchmarks/speed_256.py [--receivers deepjscc,commin-fast,commin-late,commin] [--calls 2]
       [--out results/speed_256.json]
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from commin.atomic import write_text
from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.diffusion.prior import Prior
from commin.inn.degradation import Degradation
from commin.link import Link
from commin.receivers.base import Receiver
from commin.receivers.commin import CommIN
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_late import CommINLate, CommINLateConfig
from commin.receivers.commin_settings import FastSettings
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.training.codec import CodecRecipe
from commin.training.inn import InnRecipe
from commin.training.recipe import parse, read_yaml

RECIPES = Path(__file__).parent.parent / "recipes" / "paper"
SIZE = 256
WIDTHS = (128, 128, 256, 256, 512, 512)
CALLS = {"deepjscc": 0, "commin-fast": FastSettings().steps, "commin-late": CommINLateConfig().steps, "commin": 1000}
"""Calls of the U-Net in a whole run."""


def published_prior(steps: int) -> Prior:
    """A U-Net of google/ddpm-celebahq-256's configuration with random weights, T = ``steps``."""
    from diffusers import UNet2DModel

    unet = UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=3, block_out_channels=WIDTHS, layers_per_block=2,
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, attention_head_dim=None,
    )  # fmt: skip
    scheduler = {"num_train_timesteps": steps, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    return Prior(unet, scheduler).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def make(name: str, inn: Degradation, calls: int) -> Receiver:
    if name == "deepjscc":
        return DeepJSCCReceiver()
    if name == "commin":
        return CommIN(published_prior(calls), inn)
    if name == "commin-late":
        return CommINLate(published_prior(1000), inn, CommINLateConfig(steps=calls))
    return CommINFast(published_prior(1000), inn, FastSettings(steps=calls))


def measure(name: str, calls: int) -> dict[str, Any]:
    """One picture through one receiver, in this process."""
    codec = parse(CodecRecipe, read_yaml(RECIPES / "codec.yaml"), RECIPES)
    content = read_yaml(RECIPES / "inn-1-192.yaml")
    inn = parse(InnRecipe, {**content, "codec": "none"}, RECIPES)
    receiver = make(name, Degradation(inn.model).eval(), calls)
    link = Link(DeepJSCC(codec.model).eval(), inn.model.ratio, Awgn(), receiver)
    images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    begin = time.perf_counter()
    result = link.transmit(images, 0.0)
    seconds = time.perf_counter() - begin
    assert bool(torch.isfinite(result.images).all())
    whole = CALLS[name]
    return {
        "receiver": name, "calls": whole, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seconds_a_call": seconds / (calls if whole else 1), "minutes": seconds * (whole / calls if whole else 1) / 60,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--receivers", default=",".join(CALLS))
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="run the one receiver in this process")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = options.receivers.split(",")
    if unknown := set(names) - CALLS.keys():
        parser.error(f"--receivers {', '.join(unknown)}: choose among {', '.join(CALLS)}")
    if options.here:
        print(json.dumps(measure(names[0], options.calls)))
        return
    about = {"machine": platform.machine(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0],
             "torch": torch.__version__, "size": SIZE, "batch": 1, "precision": "float32"}  # fmt: skip
    rows = []
    for name in names:
        command = [sys.executable, "-P", __file__, "--here", "--receivers", name, "--calls", str(options.calls)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        told = "{receiver}: peak {peak_gib:.1f} GiB, {seconds_a_call:.1f} s a call, {calls} calls, {minutes:.1f} min"
        print(told.format(**rows[-1]), flush=True)
    if options.out:
        write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
