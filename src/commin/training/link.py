"""A batch through a codec and AWGN in one pass, every image at an SNR and a ρ of its own."""

import torch
from torch import Tensor

from commin.channels.base import Csi
from commin.codec.config import DeepJSCCConfig, served_channels
from commin.codec.deepjscc import DeepJSCC
from commin.codec.ends import Decoder, Encoder, pack, unpack
from commin.codec.reference import LinkConfig
from commin.units import DOWNSAMPLING, db_to_linear, normalize_power


def validation_snrs_db(snr_range_db: tuple[float, float]) -> list[float]:
    """Those of −5, 0 and 5 dB that lie in the range trained over, or its middle."""
    low, high = snr_range_db
    return [snr for snr in (-5.0, 0.0, 5.0) if low <= snr <= high] or [(low + high) / 2]


class MixedLink:
    """The links of a ``LinkConfig`` as one codec serves them, to be validated at ``snrs_db``.

    Raises:
        ValueError: the codec does not serve one of the ρ.
    """

    def __init__(self, model: DeepJSCCConfig, config: LinkConfig) -> None:
        self.model, self.config, self.bcrs = model, config, config.bcrs
        self.snrs_db = validation_snrs_db(config.snr_range_db)
        self.channels = torch.tensor([float(served_channels(model, bcr)) for bcr in self.bcrs])

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """For images (B, 3, H, W), which are among the rows too: all that `picture` needs.

        Returns:
            ``snr_db`` (B,) in dB, uniform; ``bcr`` (B,), the number of each one's ρ in ``bcrs``, in turn; ``channels``
            (B,) of the latent that it uses; ``noise``, CN(0, 1) for the largest k, (B, k).
        """
        low, high = self.config.snr_range_db
        count = len(images)
        positions = (images.shape[-1] // DOWNSAMPLING) * (images.shape[-2] // DOWNSAMPLING)
        most = max(self.model.latent_channels) // 2 * positions
        bcr = (torch.arange(count) + int(torch.randint(len(self.bcrs), (1,), generator=rng))) % len(self.bcrs)
        return {
            "images": images,
            "snr_db": low + (high - low) * torch.rand(count, generator=rng),
            "bcr": bcr,
            "channels": self.channels[bcr],
            "noise": torch.randn(count, most, dtype=torch.complex64, generator=rng),
        }

    def picture(self, encoder: Encoder, decoder: Decoder, rows: dict[str, Tensor]) -> Tensor:
        """y of the rows of `draw`: through the encoder, AWGN and the decoder, (B, 3, H, W), not clipped to [0, 1].

        Both ends know the SNR. A smaller ρ sends the first channels of the latent alone.
        """
        images, snr_db, channels = rows["images"], rows["snr_db"], rows["channels"]
        sent = pack(encoder.latent(images, snr_db, channels))
        share = (channels / max(self.model.latent_channels)).unsqueeze(1)
        used = torch.arange(sent.shape[1], device=sent.device) < share * sent.shape[1]
        # mean |z|² = 1 over the symbols in use; the others stay zero at both ends.
        sent = normalize_power(sent * used) * share.sqrt()
        noise = rows["noise"] * Csi(snr_db).noise_variance().sqrt()
        received = (sent + noise) * used
        latent = unpack(received, images.shape[-2] // DOWNSAMPLING, images.shape[-1] // DOWNSAMPLING)
        return decoder.picture(latent, snr_db, channels)

    @torch.no_grad()
    def estimate(self, codec: DeepJSCC, rows: dict[str, Tensor]) -> Tensor:
        """y of the rows of `draw` as a receiver has it, clipped to [0, 1]; the codec is moved to where the rows are."""
        codec = codec.to(rows["images"].device)
        assert codec.encoder is not None
        assert codec.decoder is not None
        return self.picture(codec.encoder, codec.decoder, rows).clamp(0, 1)

    def relative_error(self, pictures: Tensor, rows: dict[str, Tensor]) -> Tensor:
        """MSE of pictures (B, 3, H, W) over the MSE expected of their links, (B,)."""
        expected = db_to_linear(self.config.expected_psnr_db(rows["bcr"], rows["snr_db"]))
        return (pictures - rows["images"]).square().mean((1, 2, 3)) * expected
