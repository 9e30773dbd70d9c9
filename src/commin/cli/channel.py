"""``commin channel tx.sigmf-meta -o rx.sigmf-meta``: what happens to a recording on the air."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from commin.iq.sigmf import Recording

BLOCK = 1 << 17
SIGMAS = 5.0
"""Standard deviations of one component that full scale stands above, in ci16."""


def channel(
    recording: Annotated[Path, typer.Argument(help="The recording: .sigmf-meta, .cf32 or .ci16.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The impaired recording.")],
    snr: Annotated[float | None, typer.Option(help="Mean Es/N0 in dB after the matched filter; else no noise.")] = None,
    delay: Annotated[float, typer.Option(help="Samples of delay, also fractions.")] = 0.0,
    frequency_offset: Annotated[float, typer.Option(help="Hz.")] = 0.0,
    ppm: Annotated[float, typer.Option(help="How much faster the receiver's clock runs, in millionths.")] = 0.0,
    phase_noise: Annotated[float, typer.Option(help="Linewidth of the oscillators in Hz.")] = 0.0,
    fading: Annotated[
        str | None, typer.Option(help="none, block (a gain for each frame) or fast (Clarke's model); block with --tdl.")
    ] = None,
    doppler: Annotated[float, typer.Option(help="Largest Doppler shift of fast fading in Hz.")] = 1.0,
    taps: Annotated[str, typer.Option(help="Paths as samples:dB[:degrees],…")] = "0:0",
    tdl: Annotated[str | None, typer.Option(help="Paths of 3GPP instead: A to E, or A10 to D30, by Sionna.")] = None,
    delay_spread: Annotated[float, typer.Option(help="Of --tdl A to E, in ns.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    sample_rate: Annotated[float | None, typer.Option(help="Samples per second, for raw files.")] = None,
    sps: Annotated[int | None, typer.Option(help="Samples per symbol, where the recording does not say.")] = None,
    datatype: Annotated[str | None, typer.Option(help="cf32_le or ci16_le; else that of the recording.")] = None,
) -> None:
    """Add noise, delay, offsets, phase noise, fading and echoes, all from one seed."""
    from commin.errors import UserError
    from commin.iq.frame import Modem
    from commin.iq.impairments import Air, Impairments, parse_taps
    from commin.iq.pulse import Pulse
    from commin.iq.sigmf import RecordingWriter, open_recording
    from commin.iq.tdl import DelayLine
    from commin.iq.tdl import tdl as delay_line

    source = open_recording(recording, sample_rate)
    rate = source.sample_rate
    modem = source.modem or Modem(Pulse(sps or Pulse().sps))
    line = DelayLine(parse_taps(taps), 0.0) if tdl is None else delay_line(tdl, rate, delay_spread)
    impairments = Impairments(
        snr_db=snr,
        delay=delay,
        frequency=frequency_offset / rate,
        ppm=ppm,
        phase_noise=phase_noise / rate,
        fading=fading or ("none" if tdl is None else "block"),
        doppler=doppler / rate,
        taps=line.taps,
        seed=seed,
        k_factor=line.k_factor,
    )
    complaints = list(source.complaints)
    power = _frame_power(source)
    source.complaints = complaints  # what is odd about the samples comes again when they are sent
    if power == 0 and snr is not None:
        raise UserError(f"{recording}: holds silence, to which no SNR can be set")
    energy = power * modem.pulse.sps
    air = Air(impairments, energy, sorted(note["core:sample_start"] for note in source.annotations))
    total = power + (0.0 if snr is None else energy * 10 ** (-snr / 10))
    full_scale = max(1.0, SIGMAS * (total / 2) ** 0.5)
    with RecordingWriter(out, rate, modem, datatype or source.datatype, source.frequency, full_scale) as writer:
        for block in source.blocks(BLOCK):
            writer.write(air.push(block))
        writer.write(air.finish())
        for note in source.annotations:
            start = round(note["core:sample_start"] * (1 + ppm * 1e-6) + delay)
            writer.annotate(start, note.get("core:sample_count", 0), str(note.get("core:label", "")), {})
    for complaint in source.complaints:
        print(f"warning: {complaint}")
    if writer.clipped:
        print(f"warning: {writer.clipped} values were beyond full scale and are clipped")
    print(f"recording: {writer.meta or writer.data}, {writer.samples} samples, {writer.samples / rate:.4f} s")


def _frame_power(source: "Recording") -> float:
    """Mean power of the annotated frames; without annotations, of all samples that are not silence."""
    import numpy as np

    spans = [
        (note["core:sample_start"], note["core:sample_start"] + note.get("core:sample_count", source.samples))
        for note in source.annotations
    ]
    energy, count = 0.0, 0
    for start, stop in spans or [(0, source.samples)]:
        for block in source.blocks(BLOCK, start, stop):
            powers = np.abs(np.nan_to_num(block, posinf=0, neginf=0)).astype(np.float64) ** 2
            energy += float(powers.sum())
            count += len(powers) if spans else int(np.count_nonzero(powers))
    return energy / max(count, 1)
