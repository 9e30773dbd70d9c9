"""``commin serve``: the page for one's own photo, on this machine."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file.")] = "faces64",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Serve a page where photos are sent over a noisy channel; nothing leaves this machine."""
    from commin.cli.devices import torch_device
    from commin.errors import UserError

    try:
        from commin.serve.run import run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UserError("the page needs a web server; install it with: pip install 'commin[serve]'") from None
    run(host, port, model, torch_device(device))
