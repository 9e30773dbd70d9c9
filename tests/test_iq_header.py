"""The header: what goes in comes out, what is damaged is refused, and noise at −5 dB seldom harms it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commin.errors import UserError
from commin.iq.header import HEADER_BITS, Header, decode_headers, encode_header, model_id

headers = st.builds(
    Header,
    model=st.integers(0, 255),
    half_channels=st.integers(1, 128),
    design_snr_db=st.integers(-10, 21),
    pictures=st.integers(1, 32),
    side=st.integers(1, 32),
)


@given(headers)
@settings(max_examples=100, deadline=None)
def test_bits_and_back(header: Header) -> None:
    bits = header.bits()
    assert len(bits) == HEADER_BITS == 40
    assert Header.parse(bits) == header


@given(headers, st.sets(st.integers(0, 39), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_crc_finds_up_to_three_wrong_bits(header: Header, wrong: set[int]) -> None:
    bits = header.bits()
    bits[list(wrong)] ^= 1
    assert Header.parse(bits) is None


def test_nothing_is_no_header() -> None:
    assert Header.parse(np.zeros(40, np.uint8)) is None
    assert Header.parse(np.ones(40, np.uint8)) is None


@pytest.mark.parametrize("count", [193, 283])
def test_code_without_noise(count: int) -> None:
    sent = [Header(i, 1 + i // 2, i % 32 - 10, 1 + i % 32, 1 + (i * 7) % 32) for i in range(0, 255, 9)]
    words = np.stack([encode_header(header, count) for header in sent])
    assert np.allclose(np.abs(words), 1)
    assert decode_headers(words) == sent
    assert decode_headers(words[:0]) == []


def test_minimum_distance() -> None:
    """Words of up to three ones, coded, are no nearer to the word of zeros than the code's free distance."""
    from commin.iq.header import _generator_matrix

    matrix = _generator_matrix().astype(int)
    pairs = [matrix[0] + matrix[i] for i in range(1, 40)]
    triples = [matrix[0] + matrix[i] + matrix[j] for i in range(1, 40) for j in range(i + 1, 40)]
    weights = [int(np.sum(word % 2)) for word in [matrix[0], *pairs, *triples]]
    assert min(weights) == 24


def test_code_is_that_of_sionna() -> None:
    """Its encoder, fed a word twice, is at the word's end in the state it began in: the second half is tail-biting."""
    torch, conv = pytest.importorskip("torch"), pytest.importorskip("sionna.phy.fec.conv")
    from commin.iq.header import GENERATORS, _generator_matrix

    encoder = conv.ConvEncoder(gen_poly=tuple(f"{generator:09b}"[::-1] for generator in GENERATORS), device="cpu")
    words = np.random.default_rng(0).integers(0, 2, (20, HEADER_BITS))
    twice = encoder(torch.tensor(np.concatenate([words, words], axis=1), dtype=torch.float32)).numpy()
    theirs = twice.reshape(20, 2 * HEADER_BITS, 4)[:, HEADER_BITS:].transpose(0, 2, 1).reshape(20, -1)
    assert np.array_equal(words @ _generator_matrix().astype(int) % 2, theirs)


def test_noise_at_minus_5_db() -> None:
    rng = np.random.default_rng(1)
    header = Header(200, 16, 0, 4, 4)
    words = np.repeat(encode_header(header, 193)[None], 600, axis=0)
    noise = rng.standard_normal((600, 193, 2)).astype(np.float32).view(np.complex64)[..., 0] * (10**0.5 / 2) ** 0.5
    read = decode_headers((words + noise).astype(np.complex64))
    assert sum(found == header for found in read) >= 590
    assert all(found in (None, header) for found in read)


def test_of() -> None:
    header = Header.of("faces64", Fraction(1, 48), -5, 16, 64)
    assert (header.bcr, header.image_size, header.symbols, header.model) == (
        Fraction(1, 48),
        64,
        256,
        model_id("faces64"),
    )


@pytest.mark.parametrize(
    ("bcr", "snr", "pictures", "size"),
    [("1/47", 0, 1, 64), ("1/2", 0, 1, 64), ("1/48", 0.5, 1, 64), ("1/48", 99, 1, 64),
     ("1/48", 0, 33, 64), ("1/48", 0, 0, 64), ("1/48", 0, 1, 65), ("1/48", 0, 1, 1024)],
)  # fmt: skip
def test_what_a_header_cannot_say(bcr: str, snr: float, pictures: int, size: int) -> None:
    with pytest.raises(UserError):
        Header.of("faces64", Fraction(bcr), snr, pictures, size)
