r"""A rectified flow from the noised estimate of a link to a picture, made from a diffusion prior.

    x_s = (1 − s)·(y + σ·n) + s·x,  n ~ N(0, I);   dx_s/ds = v(x_s, s) = E[x − (y + σ·n) | x_s, y],  s from 0 to 1

The straight path from E[x|y] to x is that of Posterior-Mean Rectified Flow (arXiv:2410.00418); there the network sees
x_s alone, here y as well. All pictures in [−1, 1].

The network is the prior's, by this reading: x_s − x = (1 − s)·e with e = y + σ·n − x, of variance r² = E‖y − x‖² + σ²
a sample, known for every ρ and SNR. If e were white noise, x_t = √ᾱ_t·x_s would be a picture at the level t at which
√((1−ᾱ_t)/ᾱ_t) = (1 − s)·r, and the velocity (x0 − x_s)/(1 − s) would be

    v = −r·ε(√ᾱ_t·x_s, t),   ε the noise that the prior finds in its input.

That is how v is computed, whatever the network puts out. Nothing is divided by 1 − s, v/r is of order one, and a flow
that has learnt nothing yet is the prior that takes y's error for noise. What else it sees, y and perhaps the INN's
correction, enters by channels whose weights start at zero.

The same network trained for one step alone, y + v(y, 0) with σ = 0, is no flow any more but one call from y to a
picture (`one_step`): what it minimises then need not be a squared error. Shown a sample of commin-fast too, it is that
receiver's last call.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from commin.codec.reference import LinkConfig
from commin.diffusion.prior import Prior, unet_config
from commin.errors import UserError
from commin.modelfile import load_strict, read_any_model, read_config, write_model
from commin.tiles import Tiles
from commin.units import IMAGE_CHANNELS, db_to_linear

KINDS = {False: "flow", True: "flow-inn"}
"""What a model file says that it holds, without and with the INN's correction among the inputs."""

ONE_STEP = "one-step"
"""What it says of a network for `one_step` that sees y alone."""

FINISH = "finish"
"""What it says of one that sees a sample of commin-fast too."""

TILES = 64
"""Tiles of large pictures at a time, a matter of memory alone."""


class FlowConfig(BaseModel):
    """A flow beside its network.

    Attributes:
        link: the links that it restores, and the PSNR of y that sets r for each.
        sigma: σ, in units of [−1, 1].
        inn: whether f⁻¹(y, d), (c, d) = f(x_s), of an INN f is shown to the network.
        sample: whether a sample of commin-fast is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    link: LinkConfig
    sigma: float = Field(0.1, ge=0)
    inn: bool = False
    sample: bool = False

    @property
    def conditions(self) -> int:
        """Pictures that the network sees beside x_s."""
        return 1 + self.inn + self.sample


class Flow(nn.Module):
    """v, computed by the network of a prior.

    Attributes:
        prior: the network with further inputs, and its noise levels.
        config: the flow's own.
    """

    def __init__(self, prior: Prior, config: FlowConfig) -> None:
        super().__init__()
        self.prior, self.config = prior, config

    def number(self, bcr: Fraction) -> int:
        """The number of this ρ among those of the config. Raises UserError if it is none of them."""
        known = self.config.link.bcrs
        if bcr not in known:
            raise UserError(f"this flow restores links of ρ = {', '.join(map(str, known))}, not {bcr}")
        return known.index(bcr)

    def deviation(self, bcr: Tensor, snr_db: Tensor) -> Tensor:
        """r of rows with ρ of these numbers, int64 (B,), and SNRs (B,) in dB: (B,), in units of [−1, 1]."""
        error = 4 / db_to_linear(self.config.link.expected_psnr_db(bcr, snr_db))
        return (error + self.config.sigma**2).sqrt()

    def velocity(self, x: Tensor, s: Tensor, deviation: Tensor, *conditions: Tensor) -> Tensor:
        """v at x_s, in tiles where the pictures are not of the network's size.

        Args:
            x: x_s, (B, 3, H, W) in about [−1, 1].
            s: (B,) in [0, 1].
            deviation: r, (B,).
            conditions: y, and with an INN its correction, or a sample; as x.

        Returns:
            (B, 3, H, W), float32.
        """
        size = self.prior.size
        height, width = x.shape[-2:]
        if (height, width) != (size, size):
            tiles = Tiles(height, width, size, size // 4, extra=1)
            cut = tiles.cut(torch.cat([x, *conditions], 1)).flatten(0, 1)
            each = (value.repeat_interleave(len(tiles)).split(TILES) for value in (s, deviation))
            rows = zip(cut.split(TILES), *each, strict=True)
            parts = [self.velocity(a[:, :3], b, c, *a[:, 3:].split(3, 1)) for a, b, c in rows]
            return tiles.join(torch.cat(parts).unflatten(0, (len(x), -1)))
        schedule = self.prior.schedule
        t = schedule.lowest_each(((1 - s) * deviation).square())
        x_t = schedule.signal(t).sqrt() * x
        x0 = self.prior.picture(self.prior.output(x_t, t, *conditions), x_t, t)
        return -deviation[:, None, None, None] * schedule.noise_in(x_t, x0, t)


def flow_from(prior: Prior, config: FlowConfig) -> Flow:
    """A flow to be trained: the network of a prior, or of a flow with fewer inputs, zero weights for those it lacks."""
    from diffusers import UNet2DModel

    tensors = prior.unet.state_dict()
    known = tensors["conv_in.weight"]
    planes = (1 + config.conditions) * IMAGE_CHANNELS * prior.patch**2
    described = {**unet_config(prior), "in_channels": planes}
    wider = Prior(UNet2DModel.from_config(described), prior.scheduler, config.conditions)
    new = known.new_zeros(known.shape[0], planes - known.shape[1], *known.shape[2:])
    wider.unet.load_state_dict({**tensors, "conv_in.weight": torch.cat([known, new], 1)})
    return Flow(wider, config)


def one_step(flow: Flow, y: Tensor, bcr: Tensor, snr_db: Tensor, *sample: Tensor) -> Tensor:
    """The whole path in one step from y itself, y + v(y, 0): pictures in [0, 1], (B, 3, H, W), not clipped.

    Args:
        flow: trained for this.
        y: estimates in [0, 1], (B, 3, H, W).
        bcr: the numbers of their ρ, int64 (B,).
        snr_db: (B,) in dB.
        sample: one of commin-fast in [0, 1], (B, 3, H, W), where the network is shown it.
    """
    x, *beside = (picture * 2 - 1 for picture in (y, *sample))
    return (x + flow.velocity(x, torch.zeros_like(snr_db), flow.deviation(bcr, snr_db), x, *beside) + 1) / 2


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int, order: int = 2) -> Tensor:
    """x_1 from x_0 by equal steps h of s.

    Order 1 is Euler, x + h·v(x, s), one call a step. Order 2 is Heun, x + h/2·[v(x, s) + v(x + h·v(x, s), s + h)], two.

    Args:
        velocity: x_s (B, 3, H, W) and s (B,) to dx_s/ds.
        x: x_0.
        steps: their number.
        order: 1 or 2.
    """
    for step in range(steps):
        s, following = (x.new_full((len(x),), (step + more) / steps) for more in (0, 1))
        slope = velocity(x, s)
        if order == 2:
            slope = (slope + velocity(x + slope / steps, following)) / 2
        x = x + slope / steps
    return x


def save_flow(flow: Flow, path: Path, dtype: torch.dtype = torch.float16, one_step: bool = False) -> None:
    """Write a flow, or a network for `one_step`, as one safetensors file rounded to ``dtype``; whole or not at all."""
    described = {
        "flow": flow.config.model_dump(mode="json"), "unet": unet_config(flow.prior), "scheduler": flow.prior.scheduler,
    }  # fmt: skip
    kind = (FINISH if flow.config.sample else ONE_STEP) if one_step else KINDS[flow.config.inn]
    write_model(path, kind, described, flow.prior.unet.state_dict(), dtype)


def load_flow(path: Path, dtype: torch.dtype = torch.float32) -> Flow:
    """Read a flow in evaluation mode, its network computing in ``dtype``.

    Raises:
        UserError: no such file, no flow in it, or weights that do not fit its config.
    """
    from diffusers import UNet2DModel

    held, described, tensors = read_any_model(path)
    if held not in (*KINDS.values(), ONE_STEP, FINISH):
        raise UserError(f"{path}: holds {held}, not a flow")
    config = read_config(FlowConfig, described.get("flow", {}), path)
    try:
        prior = Prior(UNet2DModel.from_config(described["unet"]), described["scheduler"], config.conditions)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a usable flow ({' '.join(str(error).split())})") from None
    load_strict(prior.unet, tensors, path)
    prior.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Flow(prior, config).eval()
