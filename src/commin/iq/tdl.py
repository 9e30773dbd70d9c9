"""Tapped delay lines of 3GPP: the profiles that Sionna keeps, as paths of `commin.iq.impairments`.

A to E of TR 38.901 scale with a delay spread; A10 to D30 of TS 38.101-4 have their own. D and E begin with a line of
sight. The gains of the paths are then drawn by `commin.iq.impairments`, block by block and from its seed.
"""

from typing import NamedTuple

from commin.errors import UserError

SCALABLE = ("A", "B", "C", "D", "E")
FIXED = ("A10", "A30", "B100", "C60", "C300", "D10", "D30")


class DelayLine(NamedTuple):
    """A profile.

    Attributes:
        taps: (delay in samples, gain) of each path, of unit total power.
        k_factor: power of the first path's line of sight over that of its scattered part; 0 without one.
    """

    taps: tuple[tuple[float, complex], ...]
    k_factor: float


def tdl(profile: str, sample_rate: float, delay_spread_ns: float = 300.0) -> DelayLine:
    """A 3GPP profile at a sample rate.

    Args:
        profile: a name in `SCALABLE` or `FIXED`.
        sample_rate: samples per second.
        delay_spread_ns: root mean square delay spread in ns, 0..100000; a fixed profile has its own.

    Raises:
        UserError: no such profile, a delay spread out of range, or Sionna is not installed.
    """
    if profile not in (*SCALABLE, *FIXED):
        raise UserError(f"--tdl {profile}: unknown; choose {', '.join((*SCALABLE, *FIXED))}")
    if not 0 <= delay_spread_ns <= 100_000:
        raise UserError(f"--delay-spread {delay_spread_ns:g}: must be 0..100000 ns")
    try:
        from sionna.phy.channel.tr38901 import TDL
    except ImportError:
        raise UserError("--tdl: Sionna is not installed; pip install 'commin[link]'") from None
    model = TDL(profile, delay_spread_ns * 1e-9 if profile in SCALABLE else None, carrier_frequency=1e9, device="cpu")
    paths = zip(model.delays.tolist(), model.mean_powers.tolist(), strict=True)
    taps = tuple((round(delay * sample_rate, 3), complex(power**0.5)) for delay, power in paths)
    return DelayLine(taps, float(model.k_factor) if model.los else 0.0)
