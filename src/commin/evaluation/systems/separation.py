"""Image files over an ideal code, and over 5G LDPC: source and channel coding apart, at equal channel uses."""

import json
import math
from collections.abc import Sequence

import PIL
import torch
from torch import Tensor

from commin.atomic import write_text
from commin.evaluation.separation import modem
from commin.evaluation.separation.bler import block_error_rate
from commin.evaluation.separation.files import File, Header, Option, best, formats, ladder, options
from commin.evaluation.systems.base import Fit, Sent, Settings, Way, awgn_alone
from commin.images import from_uint8
from commin.randomness import complex_normal
from commin.units import capacity_bits, db_to_linear, measured_snr_db, normalize_power

GREY = 0.5
"""What a receiver shows that has nothing to show."""


class FileSettings(Settings):
    """``pool``: how many train pictures' files show which header bytes are constant."""

    pool: int = 48


class MeasuredSettings(FileSettings):
    """``pool`` as in `FileSettings`; ``tuning``: how many valid pictures choose the modulation and code rate."""

    tuning: int = 24


class SeparationCapacity:
    r"""The file of least error that fits ⌊k·log2(1 + SNR)/8⌋ bytes, container and all, over a code that never fails.

    The SNR is the design SNR; where the true one is lower the code fails as a whole. Every format that this machine
    writes, each at falling quality and size (`commin.evaluation.separation.files`); the sender knows the error that
    each makes. Grey where nothing fits or the code fails. No real code reaches this: Shannon, 1948.
    """

    name = "separation-capacity"
    known_header = False
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        settings = fit.parse(self.name, FileSettings)
        awgn_alone(self.name, fit)
        self.symbols = fit.symbols
        self.bits = capacity_bits(fit.symbols, fit.point.design_snr_db)
        self.headers = known_headers(fit, settings.pool) if self.known_header else None

    def send(self, images: Tensor, way: Way) -> Sent:
        """See `commin.evaluation.systems.base.Scheme`; what is sent is a Gaussian codeword."""
        measured = random_codeword(self.symbols, way)
        fails = capacity_bits(self.symbols, way.point.snr_db) < self.bits * (1 - 1e-9)
        found = [best(ladder(image), int(self.bits / 8), self.headers) for image in images.cpu()]
        notes = tuple(f"{one[0].option}, {len(one[1])} bytes" if one else "nothing fits" for one in found)
        return shown(images, [one[0] if one and not fails else None for one in found], measured, notes)


class SeparationCapacityKnownHeader(SeparationCapacity):
    """`SeparationCapacity` with a receiver that knows all constant header bytes of a format, told by one byte."""

    name = "separation-capacity-known-header"
    known_header = True


class Separation:
    r"""Image file → CRC-16 → 5G LDPC → BPSK to 64-QAM over the same k symbols (`commin.evaluation.separation.modem`).

    For each design SNR and k the modulation and code rate are those of least expected error on the valid split,
    (1 − ε)·D(bytes) + ε·D(grey), with ε of the committed table of block error rates; then each picture is the file of
    least error that fits. A failed block is a grey picture. Needs Sionna (extra ``link``).
    """

    name = "separation"
    known_header = False
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        settings = fit.parse(self.name, MeasuredSettings)
        awgn_alone(self.name, fit)
        modem.require()
        self.headers = known_headers(fit, settings.pool) if self.known_header else None
        self.modem: modem.Modem | None = None
        costs = tuning_costs(fit, settings.tuning, self.headers)
        least = math.inf
        chosen = None
        for mcs in modem.SCHEMES:
            budget = modem.payload(mcs, fit.symbols)
            error = block_error_rate(mcs, fit.symbols, fit.point.design_snr_db) if budget else 1.0
            expected = sum(
                grey if error == 1 else error * grey + (1 - error) * next((m for m, s in rows if s <= budget), grey)
                for grey, rows in costs
            )
            if error < 1 and expected < least:
                least, chosen = expected, mcs
        self.symbols = fit.symbols
        if chosen is not None:
            self.modem = modem.Modem(chosen, fit.symbols)

    def send(self, images: Tensor, way: Way) -> Sent:
        """See `commin.evaluation.systems.base.Scheme`."""
        if self.modem is None:
            measured = random_codeword(self.symbols, way)
            return shown(images, [None] * len(images), measured, ("nothing fits",) * len(images))
        found = [best(ladder(image), self.modem.bytes, self.headers) for image in images.cpu()]
        symbols = self.modem.modulate([one[1] if one else b"" for one in found])
        received = way.carry(symbols)
        told = way.point.snr_db if way.point.told_snr_db is None else way.point.told_snr_db
        variance = torch.full((len(images), 1), 1 / db_to_linear(told))
        contents = self.modem.demodulate(received.symbols, variance)
        notes = tuple(
            f"{one[0].option}, {len(one[1])} of {self.modem.bytes} bytes, {self.modem.mcs}" if one else "nothing fits"
            for one in found
        )
        kept = [
            one[0] if one and content is not None and content.startswith(one[1]) else None
            for one, content in zip(found, contents, strict=True)
        ]
        return shown(images, kept, measured_snr_db(symbols, received.symbols - symbols), notes)


class SeparationKnownHeader(Separation):
    """`Separation` with a receiver that knows all constant header bytes of a format, told by one byte."""

    name = "separation-known-header"
    known_header = True


def random_codeword(symbols: int, way: Way) -> Tensor:
    """Send k Gaussian symbols for each generator, as an ideal code would: the SNR measured, dB (B,)."""
    sent = normalize_power(complex_normal((symbols,), way.generators, torch.device("cpu")))
    received = way.carry(sent)
    return measured_snr_db(sent, received.symbols - sent)


def shown(images: Tensor, files: Sequence[File | None], measured: Tensor, notes: tuple[str, ...]) -> Sent:
    """The pictures of the files, grey and counted where there is none."""
    rows = [torch.full_like(image, GREY) if file is None else from_uint8(file.pixels).to(image)
            for image, file in zip(images, files, strict=True)]  # fmt: skip
    return Sent(torch.stack(rows), measured, torch.tensor([file is None for file in files]), notes)


def known_headers(fit: Fit, pool: int) -> dict[Option, Header]:
    """What the files of the first train pictures have in common, for each option; cached."""
    path = fit.stored("headers", ".json", pool, PIL.__version__, *formats(), len(options()))
    if not path.is_file():
        ladders = [ladder(image) for image in from_uint8(fit.train.pool(pool))]
        contents = {option: [file.content for files in ladders for file in files if file.option == option]
                    for option in options()}  # fmt: skip
        found = [Header.of(contents[option]) for option in options()]
        write_text(path, json.dumps([[header.places, header.values.hex()] for header in found]))
    rows = json.loads(path.read_text())
    return {o: Header(tuple(places), bytes.fromhex(v)) for o, (places, v) in zip(options(), rows, strict=True)}


def tuning_costs(
    fit: Fit, count: int, headers: dict[Option, Header] | None
) -> list[tuple[float, list[tuple[float, int]]]]:
    """For each tuning picture the error of a grey one, and (error, bytes sent) of every option, least error first."""
    path = fit.stored(
        "files", ".json", "tuning", count, headers is not None, PIL.__version__, *formats(), len(options())
    )
    if not path.is_file():
        rows = []
        for image in from_uint8(fit.train.tuning(count)):
            found = [(file.mse, best([file], 1 << 30, headers)) for file in ladder(image)]
            grey = float((image - GREY).square().mean())
            rows.append([grey, [[mse, len(one[1])] for mse, one in found if one]])
        write_text(path, json.dumps(rows))
    return [(grey, [(mse, size) for mse, size in found]) for grey, found in json.loads(path.read_text())]
