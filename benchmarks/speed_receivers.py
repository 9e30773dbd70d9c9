"""Whole transmissions by every receiver, for `speed.py`: those of many calls by a few of them, multiplied."""

from collections.abc import Iterator
from typing import Any

import torch
from speed_part import BCR, RECIPES, Part, contiguous
from torch import Tensor

import commin
from commin.diffusion.flow import flow_from
from commin.diffusion.sampler import ddpm_step, normal
from commin.link import Link
from commin.receivers.commin import CommIN, CommINConfig, replaced_distance, zeta
from commin.receivers.commin_late import CommINLate
from commin.receivers.commin_rows import Rows
from commin.receivers.diffcom import DiffCom
from commin.receivers.guided import gradient_walk
from commin.receivers.inverse_jscc import InverseJSCC
from commin.receivers.pmrf import Pmrf
from commin.receivers.sing_inn import SingINN
from commin.stylegan2.generator import Generator
from commin.stylegan2.ilo import IloConfig
from commin.training.flow import FlowRecipe
from commin.training.gan import GanRecipe
from commin.training.recipe import parse, read_yaml


def plain_link(link: Link) -> Link:
    """The same link in float32 and plain layout."""
    receiver: Any = link.receiver
    if isinstance(receiver, torch.nn.Module):
        receiver = contiguous(receiver)
    return Link(contiguous(link.codec), link.bcr, link.channel, receiver, link.equalizer)


def receiver_parts(images: Tensor) -> Iterator[Part]:
    """One transmission by each receiver. Flow and generator are untrained, which costs the same."""

    def known(name: str) -> Any:
        return commin.load(bcr=BCR, receiver=name)

    late = known("commin-late")
    prior, inn = late.receiver.prior, late.receiver.inn

    def part(receiver: Any, count: int, whole: int = 0) -> Part:
        """``whole``: network calls of the receiver where this one makes only a few of them."""
        link = Link(late.codec, late.bcr, late.channel, receiver, late.equalizer)
        plain, some = plain_link(link), images[:count]
        times = whole / receiver.network_calls if whole else 1.0
        calls = whole or receiver.network_calls
        return Part(receiver.name, len(some), lambda: link.transmit(some), lambda: plain.transmit(some), times, calls)

    yield part(known("deepjscc").receiver, len(images))
    yield part(known("jscc-lpips").receiver, len(images))
    for name in ("commin-fast", "sing-zero"):
        yield part(known(name).receiver, 8)
    yield part(known("commin-symbol").receiver, 2)
    path = RECIPES / "faces64-flow.yaml"
    yield part(Pmrf(flow_from(prior, parse(FlowRecipe, read_yaml(path), path).flow).eval()), 8)

    short = late.receiver.config.model_copy(update={"steps": 2})
    yield part(CommINLate(prior, inn, short), 4, late.receiver.network_calls)
    yield part(Walk(prior, inn, 2), 4, prior.schedule.steps)
    sing, diffcom = known("sing-inn").receiver, known("diffcom").receiver
    short = sing.settings.model_copy(update={"steps": 2})
    yield part(SingINN(prior, inn, short), 4, sing.network_calls)
    short = diffcom.settings.model_copy(update={"steps": 2})
    yield part(DiffCom(prior, short), 4, diffcom.network_calls)

    path = RECIPES / "faces64-gan.yaml"
    generator = Generator(parse(GanRecipe, read_yaml(path), path).model).eval()
    config = IloConfig(steps=(2,), rates=(0.1,), fit_samples=100)
    yield part(InverseJSCC(generator, config), config.batch, IloConfig().network_calls)


class Walk(CommIN):
    """The literal algorithm, its last steps alone."""

    def __init__(self, prior: Any, inn: Any, steps: int) -> None:
        super().__init__(prior, inn, CommINConfig())
        self.network_calls = steps

    def _restore(self, rows: Rows) -> Tensor:
        schedule = self.prior.schedule
        times = schedule.timesteps(self.network_calls - 1, 0, self.network_calls)

        def step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return ddpm_step(schedule, x, x0, t, s, normal(x.shape[1:], rows.generators, x.device))

        distance = replaced_distance(self.inn, rows)
        return gradient_walk(self.prior, distance, rows, rows.y, times, step, zeta(self.config.zeta, rows))
