"""What the page may ask for, checked: nothing reaches a link that has not passed here."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from commin.channels import CHANNELS
from commin.errors import UserError
from commin.images import Box
from commin.zoo.receivers import RECEIVERS

FADE_DB = (5.0, 3.0, 1.0, -1.0, -3.0, -5.0)
"""SNRs of the fade strip in dB."""

MAX_SAMPLES = 8


class Frame(BaseModel):
    """A square of the photo in its pixels; it may reach over the edge, but its centre lies inside."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    left: float
    top: float
    side: float = Field(ge=16)

    def box(self, width: int, height: int) -> Box:
        """The square in a photo of this size. Raises UserError if its centre is outside or it is too large."""
        x, y = self.left + self.side / 2, self.top + self.side / 2
        if not (0 <= x <= width and 0 <= y <= height) or self.side > 2 * max(width, height):
            raise UserError(f"The frame does not lie on the photo ({width}×{height} pixels); set it again.")
        return Box(self.left, self.top, self.left + self.side, self.top + self.side)


class Task(BaseModel):
    """One transmission.

    Attributes:
        photo: what the server called the uploaded photo.
        frame: the part that is sent.
        bcr: ρ, such as 1/48.
        snr_db: per complex symbol, in dB.
        channel: a name of `commin.channels.CHANNELS`; own classes are not run for a web page.
        receivers: names of `commin.zoo.receivers.RECEIVERS`.
        samples: restored pictures by each receiver that draws.
        naturalness: α in [0, 1] for receivers that have it; None for their own.
        seed: of all noise.
        fade: also a strip of pictures from 5 down to −5 dB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    photo: str = Field(pattern=r"^[0-9a-f]{32}$")
    frame: Frame
    bcr: str = Field("1/48", max_length=16)
    snr_db: float = Field(0.0, ge=-20, le=30)
    channel: str = "awgn"
    receivers: tuple[str, ...] = Field(("deepjscc",), min_length=1, max_length=8)
    samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    naturalness: float | None = Field(None, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    fade: bool = False

    @field_validator("channel")
    @classmethod
    def _channel(cls, value: str) -> str:
        if value not in CHANNELS:
            raise ValueError(f"choose {', '.join(CHANNELS)}")
        return value

    @field_validator("receivers")
    @classmethod
    def _receivers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in RECEIVERS]:
            raise ValueError(f"unknown receiver {unknown[0][:40]!r}; choose {', '.join(RECEIVERS)}")
        return tuple(dict.fromkeys(value))


def parse_task(body: bytes) -> Task:
    """A task from JSON. Raises UserError with one line that says what is wrong."""
    try:
        return Task.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"]) or "request"
        raise UserError(f"{place}: {first['msg'].removeprefix('Value error, ')[:200]}") from None
    except RecursionError:
        raise UserError("request: nested too deeply") from None
