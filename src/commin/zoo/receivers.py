"""Receivers by name: what weights each needs from the zoo, and how it is put together from them."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from pydantic import BaseModel

from commin.errors import UserError
from commin.precision import fast_dtype
from commin.receivers.base import Receiver
from commin.receivers.commin_rows import Progress
from commin.receivers.commin_table import read_settings
from commin.zoo.cards import find_card
from commin.zoo.fetch import MissingFileError, find

if TYPE_CHECKING:
    from commin.diffusion.flow import Flow
    from commin.diffusion.prior import Prior
    from commin.inn.degradation import Degradation

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Parts:
    """What a receiver may be made from.

    Attributes:
        model: the family of the zoo that its weights belong to.
        bcr: ρ of the link.
        device: where it will run.
        naturalness: α for receivers that have it; None for their own.
        progress: told of every network call, by receivers that make many.
        given: settings of the receiver, in the place of the model's.
    """

    model: str
    bcr: Fraction
    device: torch.device
    naturalness: float | None = None
    progress: Progress | None = None
    given: BaseModel | None = None

    def path(self, kind: str) -> Path:
        """The weights of this kind. Raises UserError if the model has none, or they are not on this machine."""
        card = find_card(self.model, kind, str(self.bcr))
        if card is None:
            raise UserError(
                f"--model {self.model}: the zoo has no {kind} for it at ρ = {self.bcr}; "
                "train one and write its card, or choose --receiver deepjscc"
            )
        return find(card.name)

    def has(self, kind: str) -> bool:
        """Whether the model has weights of this kind for ρ, here or elsewhere."""
        return find_card(self.model, kind, str(self.bcr)) is not None

    def settings(self, receiver: str, model: type[M]) -> M:
        """The receiver's settings: those given, or as tuned for this model by a card of that kind, or its defaults."""
        if isinstance(self.given, model):
            return self.given
        card = find_card(self.model, receiver, str(self.bcr))
        return model() if card is None else read_settings(model, find(card.name))

    def prior(self, dtype: torch.dtype) -> "Prior":
        """The diffusion prior."""
        from commin.diffusion.prior import load_prior
        from commin.winograd import quicken

        prior = load_prior(self.path("prior"), dtype)
        quicken(prior)
        return prior

    def flow(self, kind: str) -> "Flow":
        """The flow of this kind, computing in what is fast."""
        from commin.diffusion.flow import load_flow
        from commin.winograd import quicken

        flow = load_flow(self.path(kind), fast_dtype(self.device))
        quicken(flow)
        return flow

    def inn(self, dtype: torch.dtype = torch.float32) -> "Degradation":
        """The INN of this ρ, its networks computing in ``dtype``."""
        from commin.inn.files import load_inn

        return load_inn(self.path("inn"), dtype)


def _deepjscc(parts: Parts) -> Receiver:
    from commin.receivers.deepjscc import DeepJSCCReceiver

    return DeepJSCCReceiver()


def _commin_fast(parts: Parts) -> Receiver:
    from commin.receivers.commin_fast import CommINFast
    from commin.receivers.commin_settings import FastSettings

    settings = parts.settings("commin-fast", FastSettings)
    dtype = fast_dtype(parts.device)
    finish = parts.flow("finish") if parts.has("finish") else None
    if finish is not None and parts.bcr not in finish.config.link.bcrs:
        finish = None
    return CommINFast(parts.prior(dtype), parts.inn(dtype), settings, parts.naturalness, parts.progress, finish)


def _commin_symbol(parts: Parts) -> Receiver:
    from commin.receivers.commin_settings import FastSettings
    from commin.receivers.commin_symbol import CommINSymbol

    settings = parts.settings("commin-symbol", FastSettings)
    return CommINSymbol(parts.prior(fast_dtype(parts.device)), settings, parts.naturalness, parts.progress)


def _commin_late(parts: Parts) -> Receiver:
    from commin.receivers.commin_late import CommINLate, CommINLateConfig

    settings = parts.settings("commin-late", CommINLateConfig)
    return CommINLate(parts.prior(torch.float32), parts.inn(), settings, parts.progress)


def _commin(parts: Parts) -> Receiver:
    from commin.home import home
    from commin.receivers.commin import CommIN, CommINConfig

    settings = parts.settings("commin", CommINConfig)
    return CommIN(parts.prior(torch.float32), parts.inn(), settings, parts.progress, home() / "unfinished")


def _sing_zero(parts: Parts) -> Receiver:
    from commin.receivers.sing_zero import SingZero, ZeroSettings

    settings = parts.settings("sing-zero", ZeroSettings)
    return SingZero(parts.prior(fast_dtype(parts.device)), settings, parts.naturalness, parts.progress)


def _sing_inn(parts: Parts) -> Receiver:
    from commin.receivers.sing_inn import SingINN, SingINNSettings

    settings = parts.settings("sing-inn", SingINNSettings)
    return SingINN(parts.prior(torch.float32), parts.inn(), settings, parts.naturalness, parts.progress)


def _diffcom(parts: Parts) -> Receiver:
    from commin.receivers.diffcom import DiffCom, DiffComSettings

    settings = parts.settings("diffcom", DiffComSettings)
    return DiffCom(parts.prior(torch.float32), settings, parts.naturalness, parts.progress)


def _diffcom_hifi(parts: Parts) -> Receiver:
    from commin.receivers.diffcom import DiffCom, HiFiSettings

    settings = parts.settings("diffcom-hifi", HiFiSettings)
    return DiffCom(parts.prior(torch.float32), settings, parts.naturalness, parts.progress)


def _jscc_lpips(parts: Parts) -> Receiver:
    from commin.codec.files import load_decoder
    from commin.receivers.jscc_lpips import JsccLpips

    return JsccLpips(load_decoder(parts.path("decoder")))


def _pmrf(parts: Parts) -> Receiver:
    from commin.receivers.pmrf import Pmrf, PmrfSettings

    return Pmrf(parts.flow("flow"), None, parts.settings("pmrf", PmrfSettings), parts.naturalness, parts.progress)


def _pmrf_inn(parts: Parts) -> Receiver:
    from commin.receivers.pmrf import Pmrf, PmrfSettings

    flow, inn = parts.flow("flow-inn"), parts.inn(fast_dtype(parts.device))
    return Pmrf(flow, inn, parts.settings("pmrf-inn", PmrfSettings), parts.naturalness, parts.progress)


def _one_step(parts: Parts) -> Receiver:
    from commin.receivers.one_step import OneStep

    return OneStep(parts.flow("one-step"))


def _inverse_jscc(parts: Parts) -> Receiver:
    from commin.metrics.lpips import try_lpips
    from commin.receivers.inverse_jscc import InverseJSCC, InverseSettings
    from commin.stylegan2.files import load_generator

    settings = parts.settings("inverse-jscc", InverseSettings).at(parts.bcr)
    return InverseJSCC(load_generator(parts.path("generator")), settings, try_lpips(), parts.progress)


RECEIVERS: Mapping[str, Callable[[Parts], Receiver]] = {
    "deepjscc": _deepjscc,
    "commin-fast": _commin_fast,
    "commin-symbol": _commin_symbol,
    "commin-late": _commin_late,
    "commin": _commin,
    "sing-zero": _sing_zero,
    "sing-inn": _sing_inn,
    "diffcom": _diffcom,
    "diffcom-hifi": _diffcom_hifi,
    "jscc-lpips": _jscc_lpips,
    "pmrf": _pmrf,
    "pmrf-inn": _pmrf_inn,
    "one-step": _one_step,
    "inverse-jscc": _inverse_jscc,
}
"""Receivers by name."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "commin-fast": ("prior", "inn"),
    "commin-symbol": ("prior",),
    "commin-late": ("prior", "inn"),
    "commin": ("prior", "inn"),
    "sing-zero": ("prior",),
    "sing-inn": ("prior", "inn"),
    "diffcom": ("prior",),
    "diffcom-hifi": ("prior",),
    "jscc-lpips": ("decoder",),
    "pmrf": ("flow",),
    "pmrf-inn": ("flow-inn", "inn"),
    "one-step": ("one-step",),
    "inverse-jscc": ("generator",),
}
"""Kinds of weights that receivers need beside the codec."""

USES: Mapping[str, tuple[str, ...]] = {"commin-fast": ("finish",)}
"""Kinds that they work with where the model has them."""

SAMPLERS = tuple(name for name in RECEIVERS if name not in ("deepjscc", "jscc-lpips", "one-step"))
"""Receivers whose pictures are one of many that fit what arrived."""

NATURALNESS = tuple(name for name in SAMPLERS if name not in ("commin", "commin-late", "inverse-jscc"))
"""Receivers that go between the estimate and a sample, by `commin.receivers.shown`."""


def receiver_names(given: str) -> list[str]:
    """The receivers of a ``--receiver`` option, separated by commas, each once. Raises UserError for an unknown one."""
    names = list(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in RECEIVERS:
            raise UserError(f"--receiver {name}: unknown; choose {', '.join(RECEIVERS)}")
    return names


def make_receiver(name: str, parts: Parts) -> Receiver:
    """A receiver with its weights.

    Raises:
        UserError: no such receiver, weights that are not to be had or damaged, or a naturalness that it has not.
    """
    receiver_names(name)
    if parts.naturalness is not None:
        if name not in NATURALNESS:
            raise UserError(f"--naturalness: {name} has none; it is for {', '.join(NATURALNESS)}")
        if not 0 <= parts.naturalness <= 1:
            raise UserError(f"--naturalness {parts.naturalness:g}: must be in 0..1")
    return RECEIVERS[name](parts)


def with_naturalness(receiver: Receiver, naturalness: float | None) -> Receiver:
    """A receiver of `NATURALNESS` with another α, None for its settings'; the networks are shared."""
    changed = copy(receiver)
    changed.naturalness = naturalness  # type: ignore[attr-defined]
    return changed


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of weights that a receiver needs or uses, and that of its settings."""
    return (*NEEDS.get(name, ()), *USES.get(name, ()), name)


def receiver_files(name: str, model: str, bcr: Fraction) -> list[Path]:
    """The files and folders beside the codec that a receiver of this model works with, its settings among them."""
    cards = (find_card(model, kind, str(bcr)) for kind in kinds_of(name))
    return [find(card.name) for card in cards if card is not None]


def complete(model: str, bcr: Fraction) -> list[str]:
    """The receivers whose weights are all on this machine."""
    parts, found = Parts(model, bcr, torch.device("cpu")), []
    for name in RECEIVERS:
        try:
            for kind in NEEDS.get(name, ()):
                parts.path(kind)
        except (MissingFileError, UserError):
            continue
        found.append(name)
    return found
