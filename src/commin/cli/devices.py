"""The device option of every command."""

import torch

from commin.errors import UserError


def torch_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        UserError: torch knows no such device, or it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from None
    return device
