"""Systems of a sweep by name: reference systems, one file each, and every receiver of the zoo."""

from collections.abc import Callable

from commin.errors import UserError
from commin.evaluation.systems.base import Fit, Line, Place, Point, Scheme, Sent, System, TrainSplit, Way
from commin.evaluation.systems.klt import SeparationKlt
from commin.evaluation.systems.klt_restored import SeparationKltRestored
from commin.evaluation.systems.opta import Opta
from commin.evaluation.systems.pca import Pca
from commin.evaluation.systems.random_face import RandomFace
from commin.evaluation.systems.retrieval import Retrieval
from commin.evaluation.systems.separation import (
    Separation,
    SeparationCapacity,
    SeparationCapacityKnownHeader,
    SeparationKnownHeader,
)
from commin.zoo.load import load
from commin.zoo.receivers import RECEIVERS

SYSTEMS: dict[str, Callable[[Fit], System]] = {
    "random-face": RandomFace,
    "retrieval": Retrieval,
    "pca": Pca,
    "opta": Opta,
    "separation-capacity": SeparationCapacity,
    "separation-capacity-known-header": SeparationCapacityKnownHeader,
    "separation": Separation,
    "separation-known-header": SeparationKnownHeader,
    "separation-klt": SeparationKlt,
    "separation-klt-restored": SeparationKltRestored,
}
"""Reference systems by name, made for one point of a sweep."""

RESTORED = ("separation-klt-restored",)
"""Those that need the model's prior."""


def make_system(name: str, model: str, fit: Fit) -> System:
    """A reference system fitted to the train split, or a receiver of the zoo with the weights it needs.

    Raises:
        UserError: no such system, or something it needs is not to be had.
    """
    if name in SYSTEMS:
        return SYSTEMS[name](fit)
    if name not in RECEIVERS:
        raise UserError(f"system {name}: unknown; there are {', '.join([*RECEIVERS, *SYSTEMS])}")
    if fit.settings:
        raise UserError(f"settings.{name}: a receiver of the zoo brings its own settings; give none")
    link = load(model, fit.link.bcr, name, fit.link.channel, fit.link.device, fit.link.equalizer)
    return link.to(fit.link.device).receiver


def group(name: str, system: System) -> str:
    """The class that a system is compared in: ``reference``, ``lpips`` where its loss saw LPIPS, else ``plain``."""
    if name in SYSTEMS:
        return "reference"
    return "lpips" if "lpips" in str(getattr(system, "loss_name", "")) else "plain"


__all__ = [
    "RESTORED",
    "SYSTEMS",
    "Fit",
    "Line",
    "Place",
    "Point",
    "Scheme",
    "Sent",
    "System",
    "TrainSplit",
    "Way",
    "group",
    "make_system",
]
