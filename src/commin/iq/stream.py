"""Samples as they come: a ZeroMQ subscription, such as to GNU Radio's ZMQ PUB sink."""

from collections.abc import Iterator

import numpy as np

from commin.errors import UserError
from commin.iq.pulse import Complex

SAMPLE_BYTES = 8


def zmq_blocks(address: str, quiet: float | None = None) -> Iterator[Complex]:
    """Blocks of complex64 samples from a PUB socket; a message's last part holds them, whole or not.

    Args:
        address: for example ``tcp://127.0.0.1:5555``.
        quiet: end after so many seconds without a message; None to wait for ever.

    Raises:
        UserError: pyzmq is not installed, or the address is none.
    """
    try:
        import zmq
    except ImportError:
        raise UserError("listen: pyzmq is not installed; pip install 'commin[iq]'") from None
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.setsockopt(zmq.RCVHWM, 1000)
        socket.connect(address)
        left = b""
        while socket.poll(None if quiet is None else int(quiet * 1000)):
            content = left + socket.recv_multipart()[-1]
            whole = len(content) - len(content) % SAMPLE_BYTES
            left = content[whole:]
            if whole:
                yield np.frombuffer(content[:whole], "<c8").astype(np.complex64, copy=False)
    except zmq.ZMQError as error:
        raise UserError(f"--zmq {address}: {error}") from None
    finally:
        socket.close(linger=0)
