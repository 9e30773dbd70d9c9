"""A diffusers folder as a prior: any unconditional ``UNet2DModel`` and its scheduler config, as a denoiser.

Where a network has 3·p² channels it sees pictures reshuffled to p×p-pixel planes: an orthonormal map, so white noise
stays white, and a loss on planes is the loss on pictures.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from commin.diffusion.schedule import TINY, Schedule
from commin.errors import UserError
from commin.modelfile import load_strict
from commin.tiles import Tiles
from commin.units import IMAGE_CHANNELS

Prediction = Literal["epsilon", "v_prediction", "sample"]

WEIGHTS = "diffusion_pytorch_model.safetensors"

TILES = 64
"""Tiles of large pictures denoised at a time, a matter of memory alone."""


class Prior(nn.Module):
    """A denoiser made of a U-Net, its noise schedule and what it predicts.

    Attributes:
        unet: a ``UNet2DModel`` of 3·p² channels, in float32 or bfloat16.
        schedule: its ᾱ.
        prediction: what it puts out: the noise ε, the velocity v, or the picture.
        patch: p.
        size: height and width of its pictures in pixels.

    Args:
        unet: the network; with ``conditions`` further pictures among its inputs, (1 + conditions) times the channels.
        scheduler: a diffusers scheduler config.
        conditions: pictures that the network sees beside x_t, 0 for a prior.
    """

    def __init__(self, unet: nn.Module, scheduler: Mapping[str, Any], conditions: int = 0) -> None:
        super().__init__()
        self.unet = unet
        self.scheduler = dict(scheduler)
        self.schedule = Schedule.from_config(scheduler)
        prediction = scheduler.get("prediction_type", "epsilon")
        if prediction not in get_args(Prediction):
            raise UserError(f"prior: predicts {prediction!r}; it must be one of {', '.join(get_args(Prediction))}")
        self.prediction: Prediction = prediction
        config: Mapping[str, Any] = unet.config  # type: ignore[assignment]
        pictures = IMAGE_CHANNELS * (1 + conditions)
        self.patch = math.isqrt(config["in_channels"] // pictures)
        if pictures * self.patch**2 != config["in_channels"] or not self.patch:
            raise UserError(f"prior: {config['in_channels']} input channels; pictures need 3·p² of them: 3, 12, 48, …")
        if config.get("class_embed_type") or config.get("num_class_embeds"):
            raise UserError("prior: the network wants a class label; take an unconditional one")
        if not isinstance(config["sample_size"], int):
            raise UserError(f"prior: made for pictures of {config['sample_size']}; it must be made for one square size")
        self.size: int = config["sample_size"] * self.patch

    def output(self, x_t: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        """What the network itself predicts for x_t (B, 3, H, W) in [−1, 1] and t (B,): float32 (B, 3, H, W).

        Its other inputs, ``conditions``, are pictures like x_t.
        """
        planes = F.pixel_unshuffle(torch.cat([x_t, *conditions], 1), self.patch)
        dtype = next(self.unet.parameters()).dtype
        predicted: Tensor = self.unet(planes.to(dtype), t, return_dict=False)[0]
        kept = IMAGE_CHANNELS * self.patch**2  # some add a variance: not used
        return F.pixel_shuffle(predicted[:, :kept].float(), self.patch)

    def picture(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""x0 from the network's output, all (B, 3, H, W).

        ε: (x_t − √(1−ᾱ)·ε)/√ᾱ, eq. (11), with √ᾱ at least 10⁻⁴. v: √ᾱ·x_t − √(1−ᾱ)·v, no division. Picture: itself.
        """
        if self.prediction == "sample":
            return output
        signal, noise = self.schedule.signal(t).sqrt(), self.schedule.noise(t).sqrt()
        if self.prediction == "v_prediction":
            return signal * x_t - noise * output
        return (x_t - noise * output) / signal.clamp_min(TINY)

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The output that is right for x_t = √ᾱ_t·x + √(1−ᾱ_t)·n, all (B, 3, H, W)."""
        if self.prediction == "sample":
            return x
        return noise if self.prediction == "epsilon" else self.schedule.velocity(x, noise, t)

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t] as far as the network knows: x_t (B, 3, H, W) in [−1, 1] and t (B,) to x0, clipped to [−1, 1].

        Pictures of another size than the network's are denoised in tiles of it that share a quarter of their side.
        They stand half a step off those of a `commin.codec.tiled.TiledCodec`: a network that knows faces draws more in
        the middle of a tile than at its rim, and what both do there would be seen.
        """
        height, width = x_t.shape[-2:]
        if (height, width) == (self.size, self.size):
            return self.picture(self.output(x_t, t), x_t, t).clamp(-1, 1)
        tiles = Tiles(height, width, self.size, self.size // 4, extra=1)
        rows, times = tiles.cut(x_t).flatten(0, 1), t.repeat_interleave(len(tiles))
        parts = [self.denoise(*part) for part in zip(rows.split(TILES), times.split(TILES), strict=True)]
        return tiles.join(torch.cat(parts).unflatten(0, (len(x_t), -1)))


def load_prior(folder: Path, dtype: torch.dtype = torch.float32) -> Prior:
    """Read a diffusers folder, with or without the subfolders ``unet`` and ``scheduler``, in evaluation mode.

    Args:
        folder: the folder, or whatever else `commin.diffusion.sources.prior_folder` makes one of.
        dtype: of the U-Net's weights and arithmetic; bfloat16 is the faster.

    Raises:
        UserError: no such folder, files missing or damaged, or a network that is no unconditional prior of pictures.
    """
    from diffusers import UNet2DModel

    from commin.diffusion.sources import prior_folder

    folder = prior_folder(folder)
    config_path = _first(folder, "unet/config.json", "config.json")
    config = _read_json(config_path)
    if config.get("_class_name") != "UNet2DModel":
        raise UserError(f"{config_path}: describes {config.get('_class_name')!r}; a prior must be a UNet2DModel")
    scheduler = _read_json(_first(folder, "scheduler/scheduler_config.json", "scheduler_config.json"))
    weights = _first(config_path.parent, WEIGHTS)
    try:
        prior = Prior(UNet2DModel.from_config(config), scheduler)
        tensors = {_present_name(key): value for key, value in load_file(weights).items()}
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder}: not a usable prior ({' '.join(str(error).split())})") from None
    load_strict(prior.unet, tensors, weights)
    prior.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return prior.eval()


def save_prior(prior: Prior, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a diffusers folder, weights rounded to ``dtype``; it is written beside its place and then moved there."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "unet").mkdir(parents=True)
    (temporary / "scheduler").mkdir()
    (temporary / "unet" / "config.json").write_text(json.dumps(unet_config(prior), indent=2) + "\n")
    scheduler = {**prior.scheduler, "_class_name": "DDPMScheduler"}
    (temporary / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")
    tensors = {key: value.detach().cpu().to(dtype).contiguous() for key, value in prior.unet.state_dict().items()}
    save_file(tensors, temporary / "unet" / WEIGHTS, metadata={"format": "pt"})
    if folder.exists():
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        folder.replace(old)
        temporary.replace(folder)
        shutil.rmtree(old)
    else:
        temporary.replace(folder)


def unet_config(prior: Prior) -> dict[str, Any]:
    """The config of a prior's network as plain values, from which diffusers makes it again."""
    config: Mapping[str, Any] = prior.unet.config  # type: ignore[assignment]
    return {"_class_name": "UNet2DModel", **{k: v for k, v in config.items() if not k.startswith("_")}}


def _present_name(key: str) -> str:
    """What diffusers calls a weight of an attention today; the first priors on the Hub have older names."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        key = re.sub(rf"(attentions\.\d+)\.{old}\.", rf"\1.{new}.", key)
    return key


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a prior")
    raise UserError(f"{folder}: no {names[0]} in it; a prior is a diffusers folder with safetensors weights")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values")
    return content
