"""Grids of tokens of any size as windows of side × side, the size that a transformer was trained for."""

import torch
from torch import Tensor


def _axis(tokens: int, side: int) -> tuple[Tensor, Tensor]:
    """Tokens in each window of a row of them (W, side), and in which window's place each is (tokens,).

    The last window begins earlier where the row ends within it; a row shorter than a window repeats its last token.
    """
    starts = torch.arange(0, tokens, side).clamp(max=max(tokens - side, 0))
    inside = (starts[:, None] + torch.arange(side)).clamp(max=tokens - 1)
    numbers = torch.arange(tokens)
    window = numbers // side
    return inside, window * side + numbers - starts[window]


def windows(rows: int, columns: int, side: int) -> tuple[Tensor, Tensor]:
    """Which tokens of a grid, counted row by row, make up each window, and where to find each token again.

    Returns:
        int64 (W, side²), and int64 (rows·columns,) into the flattened windows.
    """
    down, where_down = _axis(rows, side)
    across, where_across = _axis(columns, side)
    inside = (down[:, None, :, None] * columns + across[None, :, None, :]).reshape(-1, side * side)
    i, j = where_down[:, None], where_across[None]
    window = i // side * len(across) + j // side
    return inside, (window * side**2 + i % side * side + j % side).flatten()
