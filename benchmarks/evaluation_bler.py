"""Block error rate over SNR of every (k, MCS) of the separate system, kept where that system looks it up.

usage: python benchmarks/evaluation_bler.py [--symbols 64,256,1024,4096] [--blocks 100] [--out FILE] [--check]

Goes up and down in steps of 0.5 dB from a first guess until nothing fails and everything does; what FILE holds already
is not measured again. ``--check`` instead sets one MCS against Sionna's own chain and keeps both curves in
results/evaluation.json. Needs Sionna (pip install 'commin[link]').
"""

import argparse
import json
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import commin
from commin.atomic import write_text
from commin.channels.awgn import Awgn
from commin.evaluation.separation.modem import ITERATIONS, SCHEMES, Mcs, Modem, payload
from commin.randomness import generator
from commin.units import linear_to_db

STEP, LOWEST, HIGHEST, PART = 0.5, -12.0, 17.0, 20
OUT = Path("src/commin/evaluation/separation/bler.json")


def measure(modem: Modem, snr_db: float, count: int) -> tuple[int, int]:
    """Blocks failed, by CRC or wrong content, and sent; a first part that fails as a whole is enough."""
    failed = sent = 0
    while sent < count and not (sent == PART and failed == sent):
        rows = [generator("bler", str(modem.mcs), modem.symbols, snr_db, row) for row in range(sent, sent + PART)]
        contents = [bytes(torch.randint(256, (modem.bytes,), generator=g).tolist()) for g in rows]
        received = Awgn()(modem.modulate(contents), torch.full((PART,), snr_db), rows)
        assert received.csi
        found = modem.demodulate(received.symbols, received.csi.noise_variance())
        failed += sum(got != content for got, content in zip(found, contents, strict=True))
        sent += PART
    return failed, sent


def curve(mcs: Mcs, symbols: int, count: int) -> dict[str, tuple[int, int]]:
    """SNR in dB to counts, from a point where all fails to one where nothing does."""
    modem = Modem(mcs, symbols)
    start = round((linear_to_db(2**mcs.efficiency - 1) + 1.5) / STEP) * STEP
    found = {start: measure(modem, start, count)}
    snr = start
    while found[snr][0] and snr < HIGHEST:
        snr += STEP
        found[snr] = measure(modem, snr, count)
    snr = start
    while found[snr][0] < found[snr][1] and snr > LOWEST:
        snr -= STEP
        found[snr] = measure(modem, snr, count)
    return {f"{snr:g}": found[snr] for snr in sorted(found)}


def check(blocks: int) -> dict[str, Any]:
    """QPSK and the (128, 64) code, as in Sionna's tutorial of 5G codes: our BLER, and that of Sionna's blocks alone.

    There Eb/N0 is the SNR of a complex symbol, for it carries one bit. Blocks fail where any bit is wrong.
    """
    from sionna.phy.channel import AWGN
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    from sionna.phy.mapping import BinarySource, Demapper, Mapper
    from sionna.phy.utils import ebnodb2no

    mcs = Mcs(2, Fraction(1, 2))
    modem, source, noise = Modem(mcs, 64), BinarySource(seed=1, device="cpu"), AWGN(device="cpu")
    encoder = LDPC5GEncoder(64, 128, num_bits_per_symbol=2, device="cpu")
    decoder = LDPC5GDecoder(encoder, num_iter=ITERATIONS, return_infobits=True, device="cpu")
    mapper, demapper = Mapper("qam", 2, device="cpu"), Demapper("app", "qam", 2, device="cpu")
    ours, theirs = {}, {}
    for snr_db in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        failed, sent = measure(modem, snr_db, blocks)
        ours[snr_db] = failed / sent
        bits, variance = source([blocks, 64]), ebnodb2no(snr_db, 2, 0.5)
        found = decoder(demapper(noise(mapper(encoder(bits)), variance), variance))
        theirs[snr_db] = float((found != bits).any(-1).float().mean())
    apart = crossing(ours, 0.1) - crossing(theirs, 0.1)
    return {"mcs": str(mcs), "symbols": 64, "blocks": blocks, "BLER": ours, "BLER of Sionna's blocks": theirs,
            "dB apart at BLER 0.1": round(apart, 3)}  # fmt: skip


def crossing(rates: dict[float, float], level: float) -> float:
    """The SNR at which a falling curve reaches a level, linear in log BLER."""
    for (low, above), (high, below) in pairwise(sorted(rates.items())):
        if above >= level > below > 0:
            return low + (high - low) * math.log(above / level) / math.log(above / below)
    return math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", default="64,256,1024,4096")
    parser.add_argument("--blocks", type=int, help="for each SNR; 100, or 2,000 for --check")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        found = check(options.blocks or 2000)
        print(json.dumps(found))
        results = Path("results/evaluation.json")
        kept = json.loads(results.read_text()) if results.is_file() else {}
        results.write_text(json.dumps(kept | {"ldpc": found}, indent=1) + "\n")
        return
    content = json.loads(options.out.read_text()) if options.out.is_file() else {"counts": {}}
    for symbols in map(int, options.symbols.split(",")):
        counts = content["counts"].setdefault(str(symbols), {})
        for mcs in SCHEMES:
            if str(mcs) in counts or not payload(mcs, symbols):
                continue
            counts[str(mcs)] = curve(mcs, symbols, math.ceil((options.blocks or 100) / PART) * PART)
            content["about"] = f"failed and sent blocks by k, MCS and SNR in dB; commin {commin.__version__}, AWGN"
            write_text(options.out, json.dumps(content, indent=1) + "\n")
            print(symbols, mcs, counts[str(mcs)], flush=True)


if __name__ == "__main__":
    main()
