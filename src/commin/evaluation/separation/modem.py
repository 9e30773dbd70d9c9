"""5G LDPC codes and BPSK to 64-QAM through Sionna: bytes to k symbols and back."""

import binascii
import importlib
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commin.errors import UserError
from commin.randomness import generator
from commin.units import normalize_power

CHECK_BYTES = 2
ITERATIONS = 20
LARGEST = {"bg1": 8448, "bg2": 3840}
"""Information bits of a code block of each base graph; the second is for code rates below 1/3 (TS 38.212, 5.2.2)."""


@dataclass(frozen=True)
class Mcs:
    """A modulation of ``bits`` for each symbol and a code of ``rate`` information bits for each coded bit."""

    bits: int
    rate: Fraction

    def __str__(self) -> str:
        return f"{ {1: 'bpsk', 2: 'qpsk', 4: '16qam', 6: '64qam'}[self.bits] }-{self.rate}"

    @property
    def efficiency(self) -> float:
        """Information bits for each symbol."""
        return float(self.bits * self.rate)


SCHEMES = tuple(
    Mcs(bits, Fraction(rate))
    for bits, rates in {1: "1/5 1/3 1/2", 2: "1/3 1/2 2/3", 4: "2/5 1/2 2/3", 6: "1/2 2/3 3/4"}.items()
    for rate in rates.split()
)
"""All that may be chosen from, 0.2 to 4.5 bits a symbol."""


def blocks(mcs: Mcs, symbols: int) -> tuple[int, int, int]:
    """How k symbols are filled: code blocks, symbols of each, information bits of each; symbols left over stay unused.

    Equal blocks, as few as the code allows.
    """
    largest = LARGEST["bg1" if mcs.rate > Fraction(1, 3) else "bg2"]
    count = max(1, math.ceil(mcs.rate * mcs.bits * symbols / largest))
    each = symbols // count
    return count, each, math.ceil(mcs.rate * mcs.bits * each)


def payload(mcs: Mcs, symbols: int) -> int:
    """Bytes that k symbols carry beside a CRC of 16 bits; 0 if not even one (a code has 12 bits or more)."""
    count, _, information = blocks(mcs, symbols)
    return max(0, count * information // 8 - CHECK_BYTES) if information >= 12 else 0


class Modem:
    """Bytes → CRC-16 → scrambler → 5G LDPC (TS 38.212, 20 belief-propagation iterations) → Gray QAM of k symbols, back.

    Power is normalised for each row, which the receiver is not told; the scrambler, a fixed random sequence, keeps
    zeros from all becoming the same symbol. Needs Sionna 2 (extra ``link``).
    """

    def __init__(self, mcs: Mcs, symbols: int) -> None:
        self.mcs, self.symbols, self.bytes = mcs, symbols, payload(mcs, symbols)
        if self.bytes < 1:
            raise UserError(f"separation: {mcs} carries no byte over {symbols} symbols")
        ldpc, mapping = _sionna("fec.ldpc"), _sionna("mapping")
        self.count, self.each, self.information = blocks(mcs, symbols)
        coded = self.each * mcs.bits
        graph = "bg1" if self.information > LARGEST["bg2"] else None
        self._encode = ldpc.LDPC5GEncoder(
            self.information, coded, num_bits_per_symbol=mcs.bits, bg=graph, device="cpu", check_input=False
        )
        self._decode = ldpc.LDPC5GDecoder(self._encode, num_iter=ITERATIONS, return_infobits=True, device="cpu")
        size = (self.count * self.information,)
        self._scrambler = torch.randint(2, size, generator=generator("scrambler", *size), dtype=torch.uint8)
        kind = "pam" if mcs.bits == 1 else "qam"
        self._map = mapping.Mapper(kind, mcs.bits, device="cpu")
        self._demap = mapping.Demapper("app", kind, mcs.bits, device="cpu")

    def modulate(self, contents: Sequence[bytes]) -> Tensor:
        """At most `bytes` bytes for each row, filled up with zeros, to symbols z, complex64 (B, k), mean |z|² = 1."""
        rows = []
        for content in contents:
            if len(content) > self.bytes:
                raise ValueError(f"modem: {len(content)} bytes; {self.mcs} carries {self.bytes}")
            filled = content.ljust(self.bytes, b"\0")
            rows.append(np.frombuffer(filled + binascii.crc_hqx(filled, 0).to_bytes(2, "big"), np.uint8))
        bits = torch.from_numpy(np.unpackbits(np.stack(rows), axis=1))
        padded = torch.nn.functional.pad(bits, (0, len(self._scrambler) - bits.shape[1])) ^ self._scrambler
        words = self._encode(padded.float().view(len(rows), self.count, self.information))
        used = self._map(words).flatten(1).to(torch.complex64)
        rest = used.new_ones(len(rows), self.symbols - used.shape[1])
        return normalize_power(torch.cat([used, rest], 1))

    def demodulate(self, symbols: Tensor, noise_variance: Tensor) -> list[bytes | None]:
        """Symbols y = z + w (B, k) and the σ² told, (B, 1), to what was sent; None where the CRC says it failed."""
        used = symbols[:, : self.count * self.each]
        llrs = self._demap(used, noise_variance.expand_as(used).contiguous())
        bits = self._decode(llrs.view(len(symbols), self.count, -1)).flatten(1)
        plain = bits.round().to(torch.uint8) ^ self._scrambler
        rows = np.packbits(plain[:, : 8 * (self.bytes + CHECK_BYTES)].numpy(), axis=1)
        contents = [row.tobytes() for row in rows]
        return [None if binascii.crc_hqx(content, 0) else content[: self.bytes] for content in contents]


def _sionna(name: str) -> Any:
    try:
        return importlib.import_module(f"sionna.phy.{name}")
    except ImportError:
        raise UserError("separation: Sionna is not installed; pip install 'commin[link]'") from None


def _there() -> bool:
    return importlib.util.find_spec("sionna") is not None


def require() -> None:
    """Raise UserError where Sionna is not installed."""
    if not _there():
        raise UserError("separation: Sionna is not installed; pip install 'commin[link]'")
