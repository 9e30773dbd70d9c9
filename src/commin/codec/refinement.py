r"""Symbols refined at the transmitter: gradient steps for the very picture that is sent, the decoder fixed.

    z ← argmin E‖Dec(z + n, SNR) − x‖²,   n ~ CN(0, 10^(−SNR/10)·I),   mean|z|² = 1, begun at z = Enc(x, SNR)

An encoder is one pass of a network that has to serve all pictures; a transmitter with time to spare does better for the
one at hand, and no receiver has to know. Known from source coding as content-adaptive optimisation (Campos et al.,
arXiv:1906.01223) or closing the amortisation gap (Yang et al., arXiv:2006.04240).
"""

import torch
from torch import Tensor

from commin.codec.ends import Decoder
from commin.randomness import complex_normal, image_generators
from commin.units import db_to_linear, normalize_power

RATE = 0.02
"""Adam's rate at the first steps, against symbols of mean power 1; it falls with √(1 − step/steps)."""

BETAS = (0.8, 0.95)

WARMUP = 5
"""Steps over which the rate rises."""

DRAWS = 4
"""Draws of the noise by which symbols before and after are compared."""


def refine(decoder: Decoder, images: Tensor, symbols: Tensor, snr_db: Tensor, steps: int) -> Tensor:
    """Symbols that this decoder makes better pictures of: Adam, a new draw of the noise at every step.

    Args:
        decoder: the receiver's, or one like it; its weights stay as they are.
        images: (B, 3, H, W) in [0, 1].
        symbols: where to begin, complex64 (B, k), unit mean power.
        snr_db: the SNR in dB that they are made for, (B,).
        steps: passes forward and back through the decoder.

    Returns:
        Complex64 symbols (B, k), mean |z|² = 1 in each row. Those of a picture that came out no better, over the same
        4 draws of the noise, are ``symbols``. A function of each picture alone, whatever the batch.
    """
    generators = image_generators(images, 0, "refinement")
    deviation = db_to_linear(-snr_db).sqrt()[:, None]
    size = (images.shape[-2], images.shape[-1])

    def errors(sent: Tensor, noise: Tensor) -> Tensor:
        return (decoder(sent + deviation * noise, snr_db, size) - images).square().mean((1, 2, 3))

    def draw() -> Tensor:
        return complex_normal(symbols.shape[1:], generators, symbols.device)

    with torch.inference_mode(False), torch.enable_grad():
        images, snr_db, deviation = images.clone(), snr_db.clone(), deviation.clone()
        free = torch.view_as_real(symbols.detach().clone()).requires_grad_(True)
        optimizer = torch.optim.Adam([free], betas=BETAS)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps) ** 0.5
            loss = errors(normalize_power(torch.view_as_complex(free)), draw()).sum()
            (free.grad,) = torch.autograd.grad(loss, free)
            optimizer.step()
    refined = normalize_power(torch.view_as_complex(free.detach()))
    with torch.no_grad():
        noises = [draw() for _ in range(DRAWS)]
        before, after = (torch.stack([errors(sent, noise) for noise in noises]).sum(0) for sent in (symbols, refined))
    return torch.where((after < before)[:, None], refined, symbols)
