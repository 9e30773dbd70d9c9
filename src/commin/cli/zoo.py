"""``commin zoo list|show|verify|pull|add|mean``: the weights that there are."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Weights: list, show, verify, pull, add, mean.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_() -> None:
    """One line for each card."""
    from commin.zoo.cards import cards
    from commin.zoo.fetch import MissingFileError, find

    for card in cards().values():
        try:
            place = str(find(card.name))
        except MissingFileError:
            place = "not on this machine"
        print(f"{card.name:24} {card.kind:10} {place}\n{'':24} {card.summary}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A card's name.")]) -> None:
    """A card, whole."""
    import yaml

    from commin.zoo.cards import card

    print(yaml.safe_dump(card(name).model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")


@app.command()
def verify() -> None:
    """Check the SHA-256 of every file that is here; exit code 2 if one is wrong."""
    from commin.errors import UserError
    from commin.zoo.cards import cards
    from commin.zoo.fetch import MissingFileError, find

    wrong = 0
    for name in cards():
        try:
            print(f"{name:24} ok      {find(name)}")
        except MissingFileError:
            print(f"{name:24} absent")
        except UserError as error:
            wrong += 1
            print(f"{name:24} WRONG   {error}")
    if wrong:
        raise UserError(f"zoo: {wrong} wrong file(s)")


@app.command()
def pull(name: Annotated[str, typer.Argument(help="A card's name.")]) -> None:
    """Fetch a card's file to COMMIN_HOME/weights, if it is nowhere yet, and check it."""
    from commin.zoo.fetch import pull as fetch

    print(fetch(name, lambda done, total: print(f"\r{done >> 20} of {total >> 20} MiB", end="", flush=True)))


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="Codec, INN, generator, decoder, flow, a prior's folder, or a receiver's settings.")
    ],
    model: Annotated[str, typer.Option(help="The model's name: what --model asks for afterwards.")],
    kind: Annotated[str | None, typer.Option(help="For settings: the receiver they belong to.")] = None,
    crop: Annotated[str | None, typer.Option(help="For a codec: how pictures were framed in training.")] = None,
    licence: Annotated[str, typer.Option(help="Its terms.")] = "not stated",
) -> None:
    """Add weights of one's own to COMMIN_HOME, with a card."""
    from commin.zoo.add import add as add_part

    card = add_part(path, model, kind, crop, licence)
    print(f"{card.name}: {card.kind} of {model}, {card.places[0].sha256[:12]}…")


@app.command()
def mean(
    paths: Annotated[list[Path], typer.Argument(help="Two or more files of one network, say checkpoints of a run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
) -> None:
    """Average the weights of several files of one network."""
    from commin.zoo.mean import write_mean

    write_mean(paths, output)
    print(output)
