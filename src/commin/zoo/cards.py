"""Cards: what a weight file is, where it may lie, its checksum, what it was trained on, its licence and scores."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from commin.errors import UserError
from commin.home import home

PACKAGED = Path(__file__).parent / "cards"


class Place(BaseModel):
    """One file, or one folder, that serves: its name, its SHA-256 (its first 8 digits or more), where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    url: str | None = None


class Card(BaseModel):
    """One set of weights.

    Attributes:
        kind: codec, inn, prior, generator, decoder, flow, flow-inn, a receiver's name for its settings, or backbone.
        model: the family that its parts share, such as faces64; None for a backbone.
        bcr: the one ρ that it serves; None for every ρ.
        places: files that serve, the first found is taken.
        image_size, crop: the framing trained for.
        recipe, data, images_seen, scores: how it was made and how well it does.
        third_party: whether the weights are somebody else's, which this package does not carry.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    model: str | None = None
    bcr: str | None = None
    summary: str
    places: tuple[Place, ...] = Field(min_length=1)
    licence: str
    third_party: bool = False
    image_size: int | None = None
    crop: str | None = None
    recipe: str | None = None
    data: dict[str, Any] = {}
    images_seen: int | None = None
    scores: dict[str, Any] = {}
    notes: str = ""


def cards() -> dict[str, Card]:
    """All cards by name: the package's, then those in ``COMMIN_HOME/cards``, which may replace them.

    Raises:
        UserError: a card cannot be read.
    """
    found: dict[str, Card] = {}
    for folder in (PACKAGED, home() / "cards"):
        for path in sorted(folder.glob("*.yaml")):
            try:
                card = _read(path, path.stat().st_mtime_ns)
            except (ValidationError, yaml.YAMLError, OSError) as error:
                raise UserError(f"{path}: not a valid card: {' '.join(str(error).split())[:200]}") from None
            found[card.name] = card
    return found


@lru_cache(maxsize=256)
def _read(path: Path, changed_ns: int) -> Card:
    """Once for a card as long as it stays the same."""
    return Card.model_validate(yaml.safe_load(path.read_text()))


def card(name: str) -> Card:
    """The card of that name. Raises UserError, naming the cards there are."""
    known = cards()
    if name not in known:
        raise UserError(f"zoo: no card {name!r}; there are {', '.join(known)}")
    return known[name]


def find_card(model: str, kind: str, bcr: str | None = None) -> Card | None:
    """The card of a model's part, for that ρ if the part is made for one; None if there is none."""
    return next((c for c in cards().values() if (c.model, c.kind) == (model, kind) and c.bcr in (None, bcr)), None)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file; of a folder, that of its lines "<file's SHA-256>  <relative path>", sorted by path."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{sha256(part)}  {part.relative_to(path).as_posix()}\n".encode())
        return digest.hexdigest()
    stat = path.stat()
    return _file_sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, changed_ns: int) -> str:
    """Once for a file as long as it stays the same: several receivers share weights, and every record names them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
