"""CommIN: pictures over terrible radio links, restored by an INN-guided diffusion model (arXiv:2310.01130)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commin.link import Link, Transmission
    from commin.zoo.load import load

__version__ = "0.1.0"
__all__ = ["Link", "Transmission", "__version__", "load"]


def __getattr__(name: str) -> object:
    if name == "load":
        from commin.zoo.load import load

        return load
    if name in ("Link", "Transmission"):
        from commin import link

        return getattr(link, name)
    raise AttributeError(f"module 'commin' has no attribute {name!r}")
