"""Any ``nn.Module`` that maps complex symbols to complex symbols, as a channel."""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from commin.channels.base import Csi, Received, check_channel_input
from commin.errors import UserError


class ModuleChannel:
    """Wrap a module: y = module(z) at the asked SNR, row by row, the receiver told that SNR.

    The module is made for each SNR, with its parameter ``snr_db`` if it has one (Kaira's ``AWGNChannel`` does).
    Modules of others draw from torch's global generator, which is set from the row's own for the call and put back
    after it, so that a row's noise does not depend on the batch.
    """

    def __init__(self, factory: type[nn.Module]) -> None:
        self.factory = factory
        self.takes_snr = "snr_db" in inspect.signature(factory).parameters

    def __call__(self, symbols: Tensor, snr_db: Tensor, generators: Sequence[torch.Generator]) -> Received:
        """Send symbols complex64 (B, k) at (B,) dB. Raises ValueError if the module returns anything else."""
        check_channel_input(symbols, snr_db)
        rows = []
        for row, snr, own in zip(symbols, snr_db.tolist(), generators, strict=True):
            module = self.factory(snr_db=snr) if self.takes_snr else self.factory()
            seed = int(torch.randint(2**62, (1,), generator=own))
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                received = module.to(symbols.device)(row.unsqueeze(0))
            if not isinstance(received, Tensor) or not received.is_complex() or received.shape != (1, len(row)):
                raise ValueError(
                    f"channel {self.factory.__name__}: must return complex symbols of the shape it was given"
                )
            rows.append(received[0].to(symbols.dtype))
        return Received(torch.stack(rows), Csi(snr_db))


def load_channel_class(name: str) -> ModuleChannel:
    """The channel class of ``package.module:Class``, looked for in the working folder too.

    Raises:
        UserError: it cannot be imported, is no ``nn.Module``, or cannot be made from an SNR alone.
    """
    module_name, _, class_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--channel {name}: cannot be imported ({error})") from None
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UserError(f"--channel {name}: is not an nn.Module class")
    parameters = inspect.signature(found).parameters.values()
    named = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    wanted = [each for each in named if each != "snr_db"]
    if wanted:
        raise UserError(f"--channel {name}: needs {', '.join(wanted)}; name a subclass of it that fills these in")
    return ModuleChannel(found)
