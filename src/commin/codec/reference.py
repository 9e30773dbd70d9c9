"""The PSNR that a codec is expected to reach over ρ and SNR: by it the errors of all links weigh alike."""

from fractions import Fraction

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from commin.units import parse_bcr


class LinkConfig(BaseModel):
    """The links that something is trained over.

    Attributes:
        snr_range_db: SNR in dB, uniform over this range for each image.
        reference_psnr_db: ρ to the PSNR in dB that is expected at the two ends of the range. The loss of an image is
            its MSE over the MSE of this line at its SNR, so that no ρ and no SNR drowns the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr_range_db: tuple[float, float] = (-5.0, 5.0)
    reference_psnr_db: dict[str, tuple[float, float]] = Field(min_length=1)

    @field_validator("reference_psnr_db")
    @classmethod
    def _bcrs(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for key in value:
            parse_bcr(key)
        return value

    @property
    def bcrs(self) -> list[Fraction]:
        """The ρ, ascending."""
        return sorted(parse_bcr(key) for key in self.reference_psnr_db)

    def expected_psnr_db(self, bcr: Tensor, snr_db: Tensor) -> Tensor:
        """PSNR in dB, (B,), of rows at the ρ with these numbers in ``bcrs``, int64 (B,), and SNRs (B,) in dB.

        Linear in dB over the range of SNRs, constant beyond it.
        """
        lines = {parse_bcr(key): ends for key, ends in self.reference_psnr_db.items()}
        ends = torch.tensor([lines[each] for each in self.bcrs], device=snr_db.device)[bcr]
        low, high = self.snr_range_db
        return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * (snr_db.clamp(low, high) - low) / max(high - low, 1e-9)
