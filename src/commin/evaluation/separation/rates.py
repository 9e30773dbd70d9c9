"""What k complex symbols carry over an AWGN channel: without limit of length, and with a code of that length."""

import math
from statistics import NormalDist

from commin.units import capacity_bits, db_to_linear

_NORMAL = NormalDist()


def dispersion(snr_db: float) -> float:
    r"""V = γ(γ + 2)/(γ + 1)²·(log2 e)² bit² for each complex symbol, γ the SNR: twice that of a real symbol.

    Source: Polyanskiy, Poor and Verdú, Channel coding rate in the finite blocklength regime, IEEE Trans. Inf. Theory
    56(5), 2010, eq. (293).
    """
    gamma = db_to_linear(snr_db)
    return gamma * (gamma + 2) / (gamma + 1) ** 2 * math.log2(math.e) ** 2


def normal_bits(symbols: int, snr_db: float, error: float) -> float:
    """Bits of the best code of k symbols that fails with probability ε: k·C − √(k·V)·Q⁻¹(ε), at least 0.

    C = log2(1 + SNR). The normal approximation, without its ½·log2 k. Source: as `dispersion`.

    Args:
        symbols: k.
        snr_db: P/σ² per complex symbol in dB.
        error: ε in (0, 1).
    """
    spread = math.sqrt(symbols * dispersion(snr_db))
    return max(0.0, capacity_bits(symbols, snr_db) + spread * _NORMAL.inv_cdf(error))


def normal_error(symbols: int, snr_db: float, bits: float) -> float:
    """The ε at which `normal_bits` gives these bits: the failure probability of that code at another SNR."""
    spread = math.sqrt(symbols * dispersion(snr_db))
    return _NORMAL.cdf((bits - capacity_bits(symbols, snr_db)) / spread)
