"""Weights of one's own in the zoo: a copy in ``COMMIN_HOME/weights`` and a card in ``COMMIN_HOME/cards``."""

import os
import shutil
from pathlib import Path

import yaml

from commin.atomic import write_text
from commin.codec.files import DECODER_KIND as decoder_kind
from commin.codec.files import KIND as codec_kind
from commin.diffusion.flow import FINISH, ONE_STEP
from commin.diffusion.flow import KINDS as flow_kinds
from commin.errors import UserError
from commin.home import home
from commin.inn.files import KIND as inn_kind
from commin.modelfile import read_any_model
from commin.stylegan2.files import KIND as generator_kind
from commin.zoo.cards import Card, Place, sha256
from commin.zoo.receivers import RECEIVERS

KINDS = {
    codec_kind: "codec",
    inn_kind: "inn",
    generator_kind: "generator",
    decoder_kind: "decoder",
    **{kind: kind for kind in (*flow_kinds.values(), ONE_STEP, FINISH)},
}
"""What a model file says that it holds, and the card's word for it."""


def add(path: Path, model: str, kind: str | None, crop: str | None, licence: str) -> Card:
    """Add a trained model's part, so that `commin.load(model)` finds it.

    Args:
        path: a codec, INN, generator, decoder, flow, one-step or finish (``.safetensors``), a prior's folder, or a
            receiver's settings (JSON or YAML).
        model: the family that it belongs to.
        kind: needed for settings alone: the receiver's name.
        crop: how pictures were framed in training, for a codec.
        licence: its terms, in a few words.

    Returns:
        The card that was written.

    Raises:
        UserError: no such file, no part of a model, or no place to write to.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    found, config = _look(path, kind)
    bcr = config.get("bcr") if found == "inn" else None
    name = "-".join([model, found, *([str(bcr).replace("/", "-")] if bcr else [])])
    target = home() / "weights" / f"{name}{path.suffix if path.is_file() else ''}"
    card = Card(
        name=name, kind=found, model=model, bcr=bcr, summary=f"{found} of {model}, added from {path.name}",
        places=(Place(file=target.name, sha256=sha256(path)),), licence=licence,
        image_size=config.get("image_size"), crop=crop if found == "codec" else None,
    )  # fmt: skip
    try:
        _copy(path, target)
        written = home() / "cards" / f"{name}.yaml"
        write_text(written, yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise UserError(f"{home()}: {name} cannot be written there ({error.strerror})") from None
    return card


def _look(path: Path, kind: str | None) -> tuple[str, dict[str, object]]:
    """The kind of a file or folder, and its config."""
    if path.is_dir():
        if not any((path / part).is_file() for part in ("unet/config.json", "config.json")):
            raise UserError(f"{path}: no prior in it; a prior is a diffusers folder with unet and scheduler")
        return "prior", {}
    if path.suffix == ".safetensors":
        held, config, _ = read_any_model(path)
        if held not in KINDS:
            raise UserError(f"{path}: holds {held}; the zoo takes {', '.join(KINDS)}")
        return KINDS[held], config
    if kind not in RECEIVERS:
        raise UserError(f"{path}: settings of which receiver? give --kind {', '.join(RECEIVERS)}")
    return str(kind), {}


def _copy(path: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copyfile(path, temporary)
    else:
        shutil.copytree(path, temporary)
        if target.is_dir():
            shutil.rmtree(target)
    temporary.replace(target)
