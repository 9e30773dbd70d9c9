"""The modem of the separate system: exact channel uses, unit power, bytes that come back, and its block error rates."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from commin.channels.awgn import Awgn
from commin.errors import UserError
from commin.evaluation.separation import bler, modem
from commin.evaluation.separation.modem import SCHEMES, Mcs, Modem, blocks, payload
from commin.evaluation.separation.rates import normal_bits
from commin.evaluation.systems.base import Way
from commin.evaluation.systems.separation import Separation
from commin.randomness import generator, image_generators
from commin.units import linear_to_db, power
from tests.conftest import smooth_images
from tests.test_separation import faces, few_options, make_fit, point, send

__all__ = ["faces", "few_options"]

QPSK = Mcs(2, Fraction(1, 2))


def test_blocks_fill_the_symbols_and_payload_leaves_room_for_the_check() -> None:
    for mcs in SCHEMES:
        for symbols in (64, 256, 1024, 4096):
            count, each, information = blocks(mcs, symbols)
            assert symbols - count < count * each <= symbols
            assert mcs.rate <= Fraction(information, each * mcs.bits) < mcs.rate + Fraction(1, each)
            assert information <= 8448
            assert 8 * (payload(mcs, symbols) + 2) <= max(16, count * information)
    assert payload(QPSK, 1024) == 126


def test_the_committed_table_falls_with_the_snr_and_stays_below_capacity() -> None:
    for symbols, rows in bler.table().items():
        for name, counts in rows.items():
            mcs = next(mcs for mcs in SCHEMES if str(mcs) == name)
            snrs = sorted(map(float, counts))
            rates = [bler.block_error_rate(mcs, int(symbols), snr) for snr in snrs]
            assert all(later <= earlier + 0.15 for earlier, later in zip(rates, rates[1:], strict=False))
            assert bler.block_error_rate(mcs, int(symbols), snrs[0] - 0.1) == 1
            half = next(snr for snr, rate in zip(snrs, rates, strict=True) if rate <= 0.5)
            assert mcs.efficiency * int(symbols) < normal_bits(int(symbols), half, 0.5) * 1.02
    with pytest.raises(UserError, match="measured for k = 64, 256"):
        bler.block_error_rate(QPSK, 99, 0.0)


def test_without_sionna_it_is_one_line(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modem, "_there", lambda: False)
    with pytest.raises(UserError, match=r"commin\[link\]"):
        Separation(make_fit(faces, tmp_path, point(5.0), 1024))


@pytest.mark.parametrize("mcs", SCHEMES, ids=str)
def test_bytes_come_back_and_noise_is_noticed(mcs: Mcs) -> None:
    pytest.importorskip("sionna", reason="Sionna is not installed")
    link = Modem(mcs, 257)
    contents = [bytes(range(i, i + min(9, link.bytes))) for i in range(3)]
    symbols = link.modulate(contents)
    assert symbols.shape == (3, 257)
    assert torch.allclose(power(symbols), torch.ones(3), atol=1e-5)
    snr = math.ceil(linear_to_db(2**mcs.efficiency - 1)) + 6.0
    for level, comes in ((snr, True), (snr - 20, False)):
        rows = [generator(i) for i in range(3)]
        received = Awgn()(symbols, torch.full((3,), level), rows)
        assert received.csi is not None
        found = link.demodulate(received.symbols, received.csi.noise_variance())
        if comes:
            assert found == [content.ljust(link.bytes, b"\0") for content in contents]
        else:
            assert found == [None] * 3
    with pytest.raises(ValueError, match="carries"):
        link.modulate([bytes(link.bytes + 1)])


def test_several_code_blocks() -> None:
    pytest.importorskip("sionna", reason="Sionna is not installed")
    mcs = Mcs(6, Fraction(3, 4))
    link = Modem(mcs, 2048)
    assert link.count == 2
    symbols = link.modulate([b"picture"])
    received = Awgn()(symbols, torch.full((1,), 25.0), [generator(0)])
    assert received.csi is not None
    assert link.demodulate(received.symbols, received.csi.noise_variance()) == [b"picture".ljust(link.bytes, b"\0")]


def test_the_separate_system_end_to_end(faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("sionna", reason="Sionna is not installed")
    images = smooth_images(3, seed=8)
    system = Separation(make_fit(faces, tmp_path, point(10.0), 1024, tuning=4))
    seen, lost, notes = send(system, images, point(10.0))
    assert not lost.any()
    assert all("bytes" in note for note in notes)
    assert (seen - images).square().mean() < 1e-2
    assert send(system, images, point(0.0, 10.0))[1].all()
    alone = system.send(images[1:2], Way(Awgn(), point(10.0), image_generators(images[1:2], 0, "channel")))
    assert torch.equal(alone.images, seen[1:2])
