r"""CommIN on the received symbols themselves: the encoder is known, so no network need mimic the link.

As `commin.receivers.commin_fast`, but each x0 is corrected by what the symbols z = Enc(x) + w say of it,

    x̂ = x0 + r²·Jᵀ(r²·JJᵀ + (σ²/2)·I)⁻¹(z − Enc(x0)),  J the encoder's Jacobian at x0,  σ²/2 per real dimension:

E[x | x0, z] for x ~ N(x0, r²·I) and an encoder linear around x0. r² is how far x0 is from x at that step, fitted; the
system of 2k reals is solved by a few conjugate-gradient iterations. The encoder is taken to have been told the SNR that
the receiver is told. Source: ΠGDM (Song et al., ICLR 2023) with the operator of DiffCom (arXiv:2406.07390).
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from commin.channels.base import Csi
from commin.codec.deepjscc import DeepJSCC
from commin.diffusion.prior import Prior
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import Correct, Ways, restore_fast
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_rows import Progress, Rows, check_parts
from commin.receivers.commin_settings import FastSettings, RowSettings

ITERATIONS = 4


class CommINSymbol(nn.Module):
    """Few steps from a noised estimate, corrected at x0 by the symbols.

    ``weights`` of the settings' table are r² at each step, in units of [−1, 1].
    """

    name = "commin-symbol"

    def __init__(
        self, prior: Prior, settings: FastSettings | None = None, naturalness: float | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.prior, self.settings = prior.requires_grad_(False), settings or FastSettings()
        self.naturalness, self.progress = naturalness, progress
        self.network_calls = self.settings.steps

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: a prior of another picture size.
        """
        check_parts(arrival, self.prior, None)

        def correct(rows: Rows, chosen: RowSettings, bands: Bands) -> Correct:
            encode = encoder_of(arrival.codec, arrival.bcr, rows.snr_db)
            return lambda step, x0: towards_symbols(encode, x0, rows.symbols, rows.snr_db, chosen.weights[:, step])

        return restore_fast(
            self.prior, self.settings, Ways(correct), arrival, generators, samples, self.naturalness, self.progress
        )


def encoder_of(codec: DeepJSCC, bcr: Fraction, snr_db: Tensor) -> Callable[[Tensor], Tensor]:
    """Pictures (R, 3, H, W) in [−1, 1] to their symbols as reals (R, 2k)."""

    def encode(x: Tensor) -> Tensor:
        symbols = codec.encode((x + 1) / 2, snr_db, bcr)
        return torch.view_as_real(symbols).flatten(1)

    return encode


def towards_symbols(
    encode: Callable[[Tensor], Tensor], x0: Tensor, symbols: Tensor, snr_db: Tensor, doubt: Tensor
) -> Tensor:
    """The corrected x̂ in [−1, 1] for x0 (R, 3, H, W), symbols complex64 (R, k), SNRs in dB (R,) and r² (R,)."""
    noise = (Csi(snr_db).noise_variance() / 2).view(-1, 1)
    r2 = doubt.view(-1, 1).clamp_min(1e-8)
    with torch.enable_grad():
        x = x0.detach().requires_grad_()
        sent = encode(x)
        dual = torch.zeros_like(sent, requires_grad=True)
        (pulled,) = torch.autograd.grad(sent, x, dual, create_graph=True)  # Jᵀ·dual, linear in dual

    def transposed(u: Tensor) -> Tensor:
        return torch.autograd.grad(sent, x, u, retain_graph=True)[0]

    def apply(u: Tensor) -> Tensor:
        forward = torch.autograd.grad(pulled, dual, transposed(u), retain_graph=True)[0]
        return r2 * forward + noise * u

    residual = torch.view_as_real(symbols).flatten(1) - sent.detach()
    solved = conjugate_gradients(apply, residual, ITERATIONS)
    return (x0 + r2[..., None, None] * transposed(solved)).clamp(-1, 1)


def conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """About A⁻¹b of each row, (R, K), for symmetric positive definite A."""
    x, r = torch.zeros_like(b), b
    p, power = r, r.square().sum(1, keepdim=True)
    for _ in range(iterations):
        image = apply(p)
        step = power / (p * image).sum(1, keepdim=True).clamp_min(1e-20)
        x, r = x + step * p, r - step * image
        before, power = power, r.square().sum(1, keepdim=True)
        p = r + power / before.clamp_min(1e-20) * p
    return x
