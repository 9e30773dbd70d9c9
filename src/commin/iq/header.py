"""The header of a frame: 30 bits that say how to read the payload, 10 of CRC, a tail-biting convolutional code."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray

from commin.errors import UserError
from commin.iq.pulse import Complex
from commin.units import DOWNSAMPLING, IMAGE_CHANNELS

Bits = NDArray[np.uint8]

FIELDS = (8, 7, 5, 5, 5)
CRC_BITS = 10
CRC_POLYNOMIAL = 0x233  # x¹⁰ + x⁹ + x⁵ + x⁴ + x + 1 (ITU-T I.610), its leading term left out
HEADER_BITS = sum(FIELDS) + CRC_BITS
LOWEST_SNR_DB = -10

GENERATORS = (0o463, 0o535, 0o733, 0o745)
"""Rate 1/4, memory 8, free distance 24. Source: Larsen 1973; Lin and Costello, Error Control Coding, table 12.1."""
MEMORY = 8
STATES = 1 << MEMORY
WRAPS = 3


@dataclass(frozen=True)
class Header:
    """What a receiver must know of a frame.

    Attributes:
        model: `model_id` of the codec, 0..255.
        half_channels: C/2, complex symbols at each latent position, 1..128; ρ = C/1536.
        design_snr_db: the SNR in dB that the symbols were made for, a whole number −10..21.
        pictures: how many share the frame, 1..32.
        side: height and width of each in units of 16 pixels, 1..32.
    """

    model: int
    half_channels: int
    design_snr_db: int
    pictures: int
    side: int

    @classmethod
    def of(cls, model: str, bcr: Fraction, design_snr_db: float, pictures: int, image_size: int) -> Self:
        """The header for so many square pictures of ``image_size`` pixels.

        Raises:
            UserError: a value that a header cannot say.
        """
        half_channels = bcr * IMAGE_CHANNELS * DOWNSAMPLING**2
        _within(half_channels, 1, 128, f"ρ = {bcr}: a frame takes multiples of 1/768 up to 1/6")
        _within(design_snr_db, LOWEST_SNR_DB, LOWEST_SNR_DB + 31, f"design SNR {design_snr_db:g} dB: −10..21 whole dB")
        _within(pictures, 1, 32, f"{pictures} pictures: 1..32 share a frame")
        _within(Fraction(image_size, DOWNSAMPLING), 1, 32, f"{image_size} pixels a side: multiples of 16 up to 512")
        return cls(model_id(model), int(half_channels), int(design_snr_db), pictures, image_size // DOWNSAMPLING)

    @property
    def bcr(self) -> Fraction:
        """ρ of the payload."""
        return Fraction(self.half_channels, IMAGE_CHANNELS * DOWNSAMPLING**2)

    @property
    def image_size(self) -> int:
        """Height and width of each picture in pixels."""
        return self.side * DOWNSAMPLING

    @property
    def symbols(self) -> int:
        """k, complex symbols of each picture."""
        return self.half_channels * self.side**2

    def bits(self) -> Bits:
        """The fields and their CRC, most significant bit first, (40,)."""
        snr = self.design_snr_db - LOWEST_SNR_DB
        values = (self.model, self.half_channels - 1, snr, self.pictures - 1, self.side - 1)
        digits = "".join(f"{value:0{width}b}" for value, width in zip(values, FIELDS, strict=True))
        word = f"{digits}{_crc(digits):0{CRC_BITS}b}"
        return np.array([int(digit) for digit in word], np.uint8)

    @classmethod
    def parse(cls, bits: Bits) -> Self | None:
        """The header of (40,) bits, or None where the CRC fails."""
        word = "".join(map(str, bits))
        digits = word[:-CRC_BITS]
        if _crc(digits) != int(word[-CRC_BITS:], 2):
            return None
        ends = np.cumsum(FIELDS)
        model, half, snr, pictures, side = (
            int(digits[end - width : end], 2) for end, width in zip(ends, FIELDS, strict=True)
        )
        return cls(model, half + 1, snr + LOWEST_SNR_DB, pictures + 1, side + 1)


def _within(value: "Fraction | float", low: int, high: int, message: str) -> None:
    if not low <= value <= high or value != int(value):
        raise UserError(f"frame: {message}")


def model_id(model: str) -> int:
    """The first byte of the SHA-256 of a model's name: what a frame says of it."""
    return sha256(model.encode()).digest()[0]


def _crc(digits: str) -> int:
    register = (1 << CRC_BITS) - 1  # all ones, so that a word of zeros is no codeword
    for digit in digits:
        feedback = (register >> (CRC_BITS - 1)) ^ int(digit)
        register = (register << 1) & ((1 << CRC_BITS) - 1) ^ (CRC_POLYNOMIAL if feedback else 0)
    return register


@cache
def _generator_matrix() -> Bits:
    """Coded bits of each single information bit, output by output, (40, 160)."""
    taps = np.array([[generator >> delay & 1 for delay in range(HEADER_BITS)] for generator in GENERATORS], np.uint8)
    return np.stack([np.roll(taps, place, axis=1).ravel() for place in range(HEADER_BITS)])


@lru_cache(maxsize=64)
def encode_header(header: Header, count: int) -> Complex:
    """The header as ``count`` QPSK symbols (count,): coded bits, output by output, repeated until all are filled."""
    coded = 1 - 2.0 * np.resize(header.bits() @ _generator_matrix() % 2, 2 * count)
    return ((coded[0::2] + 1j * coded[1::2]) / 2**0.5).astype(np.complex64)


def decode_headers(symbols: Complex) -> list[Header | None]:
    """The most likely header of each row of derotated QPSK symbols (F, count), or None where its CRC fails."""
    soft = np.stack([symbols.real, symbols.imag], axis=-1).reshape(len(symbols), 2 * symbols.shape[1])
    length = len(GENERATORS) * HEADER_BITS
    metrics = np.zeros((len(symbols), length), np.float32)
    for start in range(0, soft.shape[1], length):
        part = soft[:, start : start + length]
        metrics[:, : part.shape[1]] += part
    words = _circular_viterbi(metrics.reshape(-1, len(GENERATORS), HEADER_BITS).transpose(0, 2, 1))
    return [Header.parse(word) for word in words]


def _circular_viterbi(metrics: NDArray[np.float32]) -> Bits:
    """Walk ``WRAPS`` times around the tail-biting trellis from all states alike; the bits of the middle round, (F, 40).

    A register holds bit t in its lowest place and bit t − 8 in its highest; without its highest it is the next state.
    """
    frames, steps, _ = metrics.shape
    registers = np.arange(2 * STATES, dtype=np.uint16)
    outputs = np.stack([np.bitwise_count(registers & generator) & 1 for generator in GENERATORS])
    branches = (metrics @ (1 - 2 * outputs.astype(np.float32))).reshape(frames, steps, 2, STATES)
    scores = np.zeros((frames, STATES), np.float32)
    choices = np.empty((WRAPS * steps, frames, STATES), bool)
    for step in range(WRAPS * steps):
        paths = np.repeat(scores.reshape(frames, 2, STATES // 2), 2, axis=-1) + branches[:, step % steps]
        choices[step] = paths[:, 1] > paths[:, 0]
        scores = paths.max(axis=1)
    state, rows = scores.argmax(axis=1), np.arange(frames)
    bits = np.empty((frames, WRAPS * steps), np.uint8)
    for step in reversed(range(WRAPS * steps)):
        bits[:, step] = state & 1
        state = (state + STATES * choices[step, rows, state]) >> 1
    middle = WRAPS // 2 * steps
    return bits[:, middle : middle + steps]
