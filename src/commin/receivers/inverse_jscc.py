"""InverseJSCC: the generator's picture that comes closest to the DeepJSCC estimate, the paper's second baseline.

Source: Erdemir et al., arXiv:2211.13772, with the optimisation of `commin.stylegan2.ilo`.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor, nn

from commin.randomness import generator as seeded
from commin.receivers.base import Arrival
from commin.stylegan2.generator import Generator
from commin.stylegan2.ilo import Distance, Ilo, IloConfig
from commin.units import parse_bcr


class InverseSettings(BaseModel):
    """How to invert at each ρ, as ``benchmarks/inverse.py`` tunes it.

    Attributes:
        ratios: ρ to the search there, such as ``{"1/48": {"steps": [150], "rates": [0.1]}}``; another ρ takes the
            nearest in log ρ, and where there are none the defaults of `IloConfig` hold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ratios: dict[str, IloConfig] = {}

    @field_validator("ratios")
    @classmethod
    def _known(cls, value: dict[str, IloConfig]) -> dict[str, IloConfig]:
        for bcr in value:
            parse_bcr(bcr)
        return value

    def at(self, bcr: Fraction) -> IloConfig:
        """The search at ρ."""
        if not self.ratios:
            return IloConfig()
        return self.ratios[min(self.ratios, key=lambda known: abs(math.log(parse_bcr(known) / bcr)))]


class InverseJSCC(nn.Module):
    """x̂ = G(argmin a·MSE(G, y) + b·LPIPS(G, y)); every sample from a start of its own.

    Batches are filled up to ``config.batch`` rows, so that a picture comes out bit for bit the same in any company.

    Args:
        generator: the generator, whose weights are frozen.
        config: weights, steps and rates.
        lpips: pictures (B, 3, H, W) in [0, 1] to distances (B,); None falls back to the MSE alone.
        progress: called after each step of a batch with the steps done so far and the steps in all; early stops skip.

    Attributes:
        loss_name: what is minimised, for the record: ``mse+lpips``, or ``mse`` where LPIPS is missing or has no weight.
    """

    name = "inverse-jscc"

    def __init__(
        self,
        generator: Generator,
        config: IloConfig | None = None,
        lpips: Distance | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.ilo = Ilo(generator, config or IloConfig(), lpips)
        self.progress = progress
        self.loss_name = "mse" if self.ilo.lpips is None else "mse+lpips"
        self.network_calls = self.ilo.config.network_calls

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1].

        Raises:
            UserError: pictures that are not square, or of a size that the generator's is no multiple of.
        """
        size, steps = self.ilo.config.batch, sum(self.ilo.config.steps)
        count = len(generators) * samples
        fill = -count % size
        sources = [source for source in generators for _ in range(samples)] + [seeded("inverse-jscc", "filling")] * fill
        targets = arrival.estimate.repeat_interleave(samples, 0)
        targets = torch.cat([targets, targets[-1:].expand(fill, -1, -1, -1)])
        restored = []
        with torch.inference_mode(False), torch.enable_grad():
            for index, begin in enumerate(range(0, len(sources), size)):
                report = self._report(index * steps, len(sources) // size * steps)
                found = self.ilo.invert(targets[begin : begin + size], sources[begin : begin + size], report)
                restored.append(found.images.clamp(0, 1))
        return torch.cat(restored)[:count].view(-1, samples, *targets.shape[1:])

    def _report(self, before: int, total: int) -> Callable[[int], None] | None:
        report = self.progress
        return None if report is None else lambda done: report(before + done, total)
