r"""Inversion of a generator by intermediate layer optimisation (ILO).

Phase 0 searches v, w = LeakyReLU₀.₂(μ + σ·v), a row of v for each row of w+, from v ~ N(0, I). Phase j ≥ 1 searches the
features that enter block j as well, with the blocks before it cut off and their RGB picture held. Noise maps are
searched in every phase; rows of v and maps are projected back to the norms they began with. Each phase descends on

    a·MSE(x, y) + b·LPIPS(x, y) + c·geocross(v),

pictures in [−1, 1], with Adam, and the next one starts from its best picture. Nothing joins the pictures of a batch.

Sources: Daras et al., arXiv:2102.07364 (ILO; the defaults are those of its public configuration), Menon et al.,
arXiv:2003.03808 (Gaussian fit of w, geodesic cross term).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from commin.errors import UserError
from commin.randomness import generator as seeded
from commin.stylegan2.generator import Generator
from commin.stylegan2.layers import SLOPE

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures (B, 3, H, W) in [0, 1] to distances (B,), differentiable; the first may leave the range."""


class IloConfig(BaseModel):
    """How to invert. The defaults are ILO's.

    Attributes:
        mse, lpips, geocross: weights a, b and c.
        steps: steps of phase 0, 1, …; 0 leaves one out.
        rates: Adam's peak learning rate in each phase.
        ramp_up, ramp_down: parts of a phase in which the rate rises linearly and falls as a cosine.
        noises: search the noise maps, the first 5 + 2j in phase j; otherwise they stay as drawn.
        project: keep the norms of latents and noise maps.
        restarts: starts tried in phase 0; the best of them goes on.
        patience: steps without a gain of ``gain`` (relative) after which a phase ends for a picture; 0 for never.
        lpips_size: larger pictures are averaged down to this size for LPIPS.
        fit_samples: draws of w for the Gaussian fit.
        batch: pictures inverted at once, quicker for each; fewer are filled up to as many. A search amplifies rounding,
            and rounding changes with the size of a batch, so that pictures found with another size differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mse: float = Field(1.0, ge=0)
    lpips: float = Field(1.0, ge=0)
    geocross: float = Field(0.01, ge=0)
    steps: tuple[int, ...] = Field((50, 50, 25, 25), min_length=1)
    rates: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1)
    ramp_up: float = Field(0.05, gt=0, le=1)
    ramp_down: float = Field(0.75, gt=0, le=1)
    noises: bool = True
    project: bool = True
    restarts: int = Field(1, gt=0)
    patience: int = Field(0, ge=0)
    gain: float = Field(0.001, ge=0, lt=1)
    lpips_size: int = Field(256, gt=0)
    fit_samples: int = Field(10_000, gt=1)
    batch: int = Field(1, gt=0)

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if len(self.rates) != len(self.steps):
            raise ValueError(f"steps has {len(self.steps)} phases and rates {len(self.rates)}; give one rate a phase")
        if min(self.steps) < 0 or self.steps[0] < 1:
            raise ValueError("steps must not be negative, and phase 0 needs at least one")
        return self

    @property
    def network_calls(self) -> int:
        """Pictures that the generator makes for one result."""
        return self.restarts * self.steps[0] + sum(self.steps[1:])


@dataclass(frozen=True)
class Point:
    """Where a search stands: v (N, L, D), noise maps (N, 1, h, h), the input of block j, the skip picture there."""

    latents: Tensor
    noises: list[Tensor]
    features: Tensor | None = None
    skip: Tensor | None = None

    def rows(self, index: Tensor) -> "Point":
        """These rows alone; before phase 1."""
        return replace(self, latents=self.latents[index], noises=[noise[index] for noise in self.noises])


@dataclass(frozen=True)
class Inversion:
    """Best pictures (N, 3, H, W), not clamped, their a·MSE + b·LPIPS (N,), and the point that makes them."""

    images: Tensor
    loss: Tensor
    point: Point


class _Best:
    """The best iterate of each row in a phase; a row that has run out of patience is left as it is."""

    def __init__(self, targets: Tensor, values: list[Tensor]) -> None:
        self.loss = targets.new_full((len(targets),), math.inf)
        self.images = torch.zeros_like(targets)
        self.values = [value.detach().clone() for value in values]
        self.stopped = torch.zeros_like(self.loss, dtype=torch.bool)
        self._reference, self._stale = self.loss, torch.zeros_like(self.loss)

    def update(self, loss: Tensor, images: Tensor, values: list[Tensor], config: IloConfig) -> None:
        """Take over the rows whose loss (N,) is lower than before."""
        better = (loss < self.loss) & ~self.stopped
        self.loss = torch.where(better, loss, self.loss)
        self.images = _where(better, images, self.images)
        self.values = [_where(better, new, old) for new, old in zip(values, self.values, strict=True)]
        gained = self.loss < (1 - config.gain) * self._reference
        self._reference = torch.where(gained, self.loss, self._reference)
        self._stale = torch.where(gained, 0.0, self._stale + 1)
        if config.patience:
            self.stopped = self.stopped | (self._stale >= config.patience)


class Ilo(nn.Module):
    """Inverts one generator, whose weights it freezes.

    Args:
        generator: the generator.
        config: weights, steps and rates.
        lpips: a perceptual distance; None to do without.

    Raises:
        UserError: more phases than the generator has blocks, or no distance left to minimise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, generator: Generator, config: IloConfig, lpips: Distance | None) -> None:
        super().__init__()
        if len(config.steps) > len(generator.blocks):
            raise UserError(f"ILO: {len(config.steps)} phases for a generator of {len(generator.blocks)} blocks")
        if not config.mse and (lpips is None or not config.lpips):
            raise UserError("ILO: nothing to minimise: mse has no weight, and LPIPS has none or is missing")
        self.generator = generator.eval().requires_grad_(False)
        self.config, self.lpips = config, lpips if config.lpips else None
        mean, std = gaussian_fit(generator, config.fit_samples)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def start(self, generators: Sequence[torch.Generator]) -> Point:
        """v and noise maps drawn from N(0, 1), row i from generators[i]."""
        config = self.generator.config
        latents, noises = [], []
        for source in generators:
            latents.append(torch.randn(config.layers, config.style_dim, generator=source))
            noises.append([torch.randn(1, size, size, generator=source) for size in config.noise_sizes])
        maps = [torch.stack(rows).to(self.mean.device) for rows in zip(*noises, strict=True)]
        return Point(torch.stack(latents).to(self.mean.device), maps)

    def styles(self, latents: Tensor) -> Tensor:
        """w+ = LeakyReLU₀.₂(μ + σ·v): (N, L, D) to (N, L, D)."""
        return F.leaky_relu(self.mean + self.std * latents, SLOPE)

    def invert(
        self, targets: Tensor, generators: Sequence[torch.Generator], progress: Callable[[int], None] | None = None
    ) -> Inversion:
        """Find pictures of the generator that look like the targets.

        Args:
            targets: y, (N, 3, H, H) in [0, 1]; the generator's size is a multiple of H.
            generators: one for each row; only the start is drawn from them.
            progress: called after each step with the steps done so far.

        Raises:
            UserError: the sizes do not fit.
        """
        config, size = self.config, self.generator.config.size
        height, width = targets.shape[2:]
        if height != width or size % width:
            raise UserError(
                f"the generator makes {size}×{size} pixels and cannot match pictures of {width}×{height}: "
                "crop them to its size, or choose another receiver"
            )
        targets = targets.detach().clone()
        point = self.start([source for source in generators for _ in range(config.restarts)])
        found = self._descend(point, targets.repeat_interleave(config.restarts, 0), 0, progress)
        best = found.loss.view(-1, config.restarts).argmin(1)
        best = best + config.restarts * torch.arange(len(targets), device=best.device)
        found = Inversion(found.images[best], found.loss[best], found.point.rows(best))
        for phase in range(1, len(config.steps)):
            found = replace(found, point=self._cut(found.point, phase))
            if config.steps[phase]:
                found = self._descend(found.point, targets, phase, progress)
        return found

    @torch.no_grad()
    def _cut(self, point: Point, phase: int) -> Point:
        """Run block phase − 1, so that the search goes on at its output."""
        w = self.styles(point.latents)
        features, skip = self.generator.run(w, point.noises, phase - 1, phase, point.features, point.skip)
        return replace(point, features=features, skip=skip)

    def _descend(self, begin: Point, targets: Tensor, phase: int, progress: Callable[[int], None] | None) -> Inversion:
        """One phase from a point; its best iterate of each row."""
        config, steps = self.config, self.config.steps[phase]
        first = max(2 * phase - 1, 0)  # rows of w+ and noise maps before it are no longer used
        searched = slice(first, 5 + 2 * phase) if config.noises else slice(0)
        free = [begin.latents, *begin.noises[searched], *([] if begin.features is None else [begin.features])]
        free = [value.clone().requires_grad_() for value in free]
        kept = len(begin.noises[searched]) + 1
        norms = [_norm(value) for value in free[:kept]]
        adam = torch.optim.Adam(free, config.rates[phase])
        best = _Best(targets, free)
        for step in range(steps):
            point = self._point(begin, free, searched)
            w = self.styles(point.latents)
            _, picture = self.generator.run(w, point.noises, phase, None, point.features, point.skip)
            made = _average_down((picture + 1) / 2, targets.shape[3])
            distance = self._distance(made, targets)
            best.update(distance.detach(), made, free, config)
            if best.stopped.all():
                break
            adam.param_groups[0]["lr"] = config.rates[phase] * ramp(step / steps, config.ramp_up, config.ramp_down)
            penalty = config.geocross * geocross(point.latents[:, first:])
            for value, slope in zip(free, torch.autograd.grad((distance + penalty).sum(), free), strict=True):
                value.grad = slope
            adam.step()
            if config.project:
                with torch.no_grad():
                    for value, norm in zip(free[:kept], norms, strict=True):
                        value.mul_(norm / _norm(value))
            if progress:
                progress(sum(config.steps[:phase]) + step + 1)
        return Inversion(best.images, best.loss, self._point(begin, best.values, searched))

    def _point(self, begin: Point, free: list[Tensor], searched: slice) -> Point:
        noises = list(begin.noises)
        count = len(noises[searched])
        noises[searched] = free[1 : 1 + count]
        return Point(free[0], noises, None if begin.features is None else free[-1], begin.skip)

    def _distance(self, made: Tensor, targets: Tensor) -> Tensor:
        """a·MSE + b·LPIPS of each row, (N,)."""
        distance = self.config.mse * 4 * (made - targets).square().mean((1, 2, 3))  # 4: pictures in [−1, 1]
        if self.lpips is not None:
            size = min(made.shape[3], self.config.lpips_size)
            perceived = self.lpips(_average_down(made, size), _average_down(targets, size))
            distance = distance + self.config.lpips * perceived
        return distance


@torch.no_grad()
def gaussian_fit(generator: Generator, samples: int) -> tuple[Tensor, Tensor]:
    """μ and σ, each (D,), of LeakyReLU₀.₂⁻¹(w) over draws of w: what makes w nearly Gaussian."""
    device, dim = generator.constant.device, generator.config.style_dim
    z = torch.randn(samples, dim, generator=seeded("ilo", "gaussian fit")).to(device)
    w = torch.cat([generator.mapping(part) for part in torch.split(z, 1000)])
    before = torch.where(w < 0, w / SLOPE, w)
    return before.mean(0), before.std(0)


def ramp(t: float, up: float, down: float) -> float:
    """Learning rate at part t of a phase over its peak: min(1, t/up)·(1 − cos(π·min(1, (1 − t)/down)))/2."""
    return min(1.0, t / up) * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / down)))


def geocross(latents: Tensor) -> Tensor:
    """Spread of the rows of v: mean over pairs of D/8·(2·atan2(‖p − q‖, ‖p + q‖))²; (N, L, D) to (N,)."""
    p, q = latents.unsqueeze(1), latents.unsqueeze(2)
    apart, together = (((p + sign * q).square().sum(-1) + 1e-9).sqrt() for sign in (-1, 1))
    return (2 * torch.atan2(apart, together)).square().mean((1, 2)) * (latents.shape[-1] / 8)


def _norm(values: Tensor) -> Tensor:
    """‖·‖ of each row of v (N, L, D) or each map (N, 1, h, h), with dimensions of size one to multiply by."""
    return (values.square().sum(tuple(range(2, values.ndim)), keepdim=True) + 1e-9).sqrt()


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *(1 for _ in yes.shape[1:])), yes.detach(), no)


def _average_down(images: Tensor, size: int) -> Tensor:
    return images if images.shape[3] == size else F.interpolate(images, size=(size, size), mode="area")
