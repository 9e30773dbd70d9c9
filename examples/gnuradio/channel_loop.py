"""A CommIN recording through GNU Radio's channel model.

    file source (cf32) → [throttle →] channels.channel_model → file sink (cf32) or ZMQ PUB sink

Run it with a Python that has GNU Radio 3.10, Debian's for example:

    commin encode photo.png -o tx.sigmf-meta
    python3 examples/gnuradio/channel_loop.py tx.sigmf-data rx.cf32 --noise 0.2 --frequency 0.0005 --epsilon 1.00001
    commin decode rx.cf32 --sample-rate 1e6 -o pictures

and live, in two terminals, the second command with ``tcp://127.0.0.1:5555`` in place of ``rx.cf32``:

    commin listen --zmq tcp://127.0.0.1:5555 -o pictures
"""

import argparse
import sys

from gnuradio import blocks, channels, gr


class ChannelLoop(gr.top_block):
    """The flowgraph."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__("CommIN channel loop")
        source = blocks.file_source(gr.sizeof_gr_complex, options.source, options.repeat)
        taps = [complex(tap) for tap in options.taps.split(",")]
        model = channels.channel_model(
            noise_voltage=options.noise,
            frequency_offset=options.frequency,
            epsilon=options.epsilon,
            taps=taps,
            noise_seed=options.seed,
            block_tags=True,
        )
        if "://" in options.sink:
            from gnuradio import zeromq

            throttle = blocks.throttle(gr.sizeof_gr_complex, options.rate)
            sink = zeromq.pub_sink(gr.sizeof_gr_complex, 1, options.sink, 100, False, -1)
            self.connect(source, throttle, model, sink)
        else:
            sink = blocks.file_sink(gr.sizeof_gr_complex, options.sink, False)
            sink.set_unbuffered(False)
            self.connect(source, model, sink)


def main() -> None:
    """Read the options and run until the file is through."""
    parser = argparse.ArgumentParser(description="A CommIN recording through GNU Radio's channel model.")
    parser.add_argument("source", help="samples, cf32: the .sigmf-data of a cf32_le recording, or .cf32")
    parser.add_argument("sink", help="a .cf32 file, or the address of a ZMQ PUB sink, tcp://127.0.0.1:5555")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="noise voltage: standard deviation of the complex noise"
    )
    parser.add_argument("--frequency", type=float, default=0.0, help="frequency offset, cycles per sample")
    parser.add_argument("--epsilon", type=float, default=1.0, help="ratio of the two sample clocks")
    parser.add_argument("--taps", default="1", help="taps of the channel, complex numbers such as 1,0,0.3j")
    parser.add_argument("--seed", type=int, default=1, help="seed of the noise")
    parser.add_argument("--rate", type=float, default=1e6, help="samples per second, for a ZMQ sink")
    parser.add_argument("--repeat", action="store_true", help="begin again at the end")
    flowgraph = ChannelLoop(parser.parse_args())
    try:
        flowgraph.run()
    except KeyboardInterrupt:
        flowgraph.stop()
        flowgraph.wait()
        sys.exit(130)


if __name__ == "__main__":
    main()
