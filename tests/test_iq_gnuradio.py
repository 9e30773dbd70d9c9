"""GNU Radio in the loop, where it is: its channel model between our frames and our receiver.

GNU Radio belongs to the system's Python as a rule: COMMIN_GNURADIO_PYTHON names the one to use, else /usr/bin/python3.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commin.iq.frame import Modem, frame_samples
from commin.iq.sigmf import RecordingWriter, open_recording
from tests.test_iq_frame import HEADER, payload
from tests.test_iq_receive import error, frames, receive, silence

FLOWGRAPH = Path(__file__).parent.parent / "examples" / "gnuradio" / "channel_loop.py"


def python_with_gnuradio() -> str | None:
    for python in (os.environ.get("COMMIN_GNURADIO_PYTHON"), "/usr/bin/python3", sys.executable):
        if python and Path(python).exists():
            probe = subprocess.run([python, "-c", "import gnuradio.channels"], capture_output=True, check=False)
            if probe.returncode == 0:
                return python
    return None


PYTHON = python_with_gnuradio()
pytestmark = pytest.mark.skipif(PYTHON is None, reason="GNU Radio is not installed")


def recording(folder: Path) -> Path:
    with RecordingWriter(folder / "tx.sigmf-meta", 1e6, Modem()) as writer:
        for number in range(3):
            writer.write(silence(2000))
            writer.write(frame_samples(HEADER, payload(HEADER, number), Modem()))
        writer.write(silence(20_000))
    return writer.data


def test_channel_model(tmp_path: Path) -> None:
    """3 dB, 0.2 % of the symbol rate and 10 ppm off: all frames, their SNR and their offset."""
    noise = 10 ** (-3 / 20)
    options = ["--noise", str(noise), "--frequency", "0.0005", "--epsilon", "1.00001"]
    command = [str(PYTHON), str(FLOWGRAPH), str(recording(tmp_path)), str(tmp_path / "rx.cf32"), *options]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    got = frames(receive(np.concatenate(list(open_recording(tmp_path / "rx.cf32", 1e6).blocks()))))
    assert [frame.header for frame in got] == [HEADER] * 3
    for number, frame in enumerate(got):
        assert frame.snr_db == pytest.approx(3, abs=1.5)
        assert frame.frequency == pytest.approx(0.0005, abs=3e-5)
        assert error(frame, payload(HEADER, number)) < 1.2 * 10**-0.3


def test_listening_to_a_zmq_sink(tmp_path: Path) -> None:
    pytest.importorskip("zmq")
    from commin.iq.receive import Frame, StreamReceiver
    from commin.iq.stream import zmq_blocks

    address = "tcp://127.0.0.1:5599"
    command = [str(PYTHON), str(FLOWGRAPH), str(recording(tmp_path)), address, "--noise", "0.5", "--repeat"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            receiver, found = StreamReceiver(Modem(), chunk=1 << 16), 0
            for block in zmq_blocks(address, quiet=30):
                found += sum(isinstance(event, Frame) for event in receiver.push(block))
                if found >= 3:
                    break
        finally:
            process.terminate()
    assert found >= 3
