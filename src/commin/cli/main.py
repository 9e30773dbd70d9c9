"""The command line. Each command is one file; its heavy imports happen when it runs."""

import sys

import typer

from commin.cli import data, zoo
from commin.cli.channel import channel
from commin.cli.decode import decode
from commin.cli.encode import encode
from commin.cli.evaluate import evaluate
from commin.cli.fit import fit
from commin.cli.listen import listen
from commin.cli.plot import plot
from commin.cli.report import report
from commin.cli.serve import serve
from commin.cli.train import train
from commin.cli.transmit import transmit
from commin.errors import UserError

app = typer.Typer(
    name="commin",
    help="Send pictures over terrible radio links so that a person still sees what was sent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (transmit, encode, channel, decode, listen, evaluate, plot, report, train, fit, serve):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(zoo.app, name="zoo")


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"commin: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
