"""One record for each (picture, system, ρ, SNR, seed): what was asked, measured and found."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

FORMAT = 1
"""Rises when a record's fields change their meaning."""


class Record(BaseModel):
    """The result of one transmission of one picture.

    SNRs in dB per complex symbol; psnr in dB and ssim on 8-bit pictures; lpips with ``lpips_backbone``, None where
    the backbone was not to be had; seconds of decoding and restoring, shared evenly by a batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    image: str
    digest: str
    model: str
    system: str
    channel: str
    bcr: str
    k: int
    n: int
    snr_db: float
    design_snr_db: float
    measured_snr_db: float
    seed: int
    psnr_db: float
    ssim: float | None = None
    lpips: float | None = None
    lpips_backbone: str | None = None
    seconds: float
    network_calls: int
    versions: dict[str, str]
    weights: dict[str, str]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; infinities and NaN as None, which JSON does not know."""
        content = self.model_dump(mode="json")
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}


def write_json(records: Iterable[Record], path: Path) -> None:
    """All records as one JSON list, under a temporary name first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps([record.as_json() for record in records], indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)
