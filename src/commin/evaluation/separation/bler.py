"""Block error rates of the modem over AWGN, measured by ``benchmarks/evaluation_bler.py`` and kept beside this file."""

import json
from functools import cache
from importlib.resources import files
from itertools import pairwise

from commin.errors import UserError
from commin.evaluation.separation.modem import Mcs

TABLE = "bler.json"
Counts = dict[str, tuple[int, int]]
"""SNR in dB as text to (blocks failed, blocks sent)."""


@cache
def table() -> dict[str, dict[str, Counts]]:
    """k as text to MCS to `Counts`; empty before anything was measured."""
    stored = files("commin.evaluation.separation") / TABLE
    found: dict[str, dict[str, Counts]] = json.loads(stored.read_text())["counts"] if stored.is_file() else {}
    return found


def block_error_rate(mcs: Mcs, symbols: int, snr_db: float) -> float:
    """Share of blocks that fail: linear between the SNRs measured, 1 below them and the last value above.

    Raises:
        UserError: not measured for this k.
    """
    if str(symbols) not in table():
        raise UserError(
            f"separation: block error rates are measured for k = {', '.join(table()) or 'nothing'}, not for {symbols}; "
            f"python benchmarks/evaluation_bler.py --symbols {symbols} measures them"
        )
    counts = table()[str(symbols)].get(str(mcs))
    if counts is None:
        return 1.0
    points = sorted((float(snr), failed / sent) for snr, (failed, sent) in counts.items())
    if snr_db < points[0][0]:
        return 1.0
    for (low, above), (high, below) in pairwise(points):
        if snr_db <= high:
            return above + (below - above) * (snr_db - low) / (high - low)
    return points[-1][1]
