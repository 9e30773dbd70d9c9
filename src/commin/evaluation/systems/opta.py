"""The Gaussian OPTA as a record of the whole set: what ideal separate coding reaches on a Gaussian source."""

from commin.errors import UserError
from commin.evaluation.lines import covariance_eigenvalues, opta_mse
from commin.evaluation.systems.base import Fit, Settings
from commin.units import linear_to_db


class Opta:
    """n·R(D) = k·log2(1 + SNR) with the rate-distortion function of a Gaussian of the train split's covariance.

    A reference and not a bound, for faces are not Gaussian; of the mean squared error under an average power
    constraint. Source: Cover and Thomas, Elements of Information Theory, sections 9.4 and 10.3.
    """

    name = "opta"

    def __init__(self, fit: Fit) -> None:
        fit.parse(self.name, Settings)
        if fit.point.channel != "awgn":
            raise UserError(f"opta: a line for the channel awgn alone, not for {fit.point.channel}")
        self.snr_db = fit.point.snr_db
        self.eigenvalues = covariance_eigenvalues(fit.train.pixels(), fit.train.cache)

    def psnr_db(self, symbols: int) -> float:
        """10·log10(1/D) in dB with k symbols."""
        return linear_to_db(1 / opta_mse(self.eigenvalues, symbols, self.snr_db))
