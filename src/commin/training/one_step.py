"""Training one call from y to x: mean of MSE / reference MSE + λ·LPIPS of y + v(y, 0), over links as for a flow.

The network starts as a flow (`commin.training.flow`) or as the model's prior. LPIPS is that of random changes of both
pictures (`commin.metrics.lpips_ensemble`); pictures go through the model's codec and the channel on the fly.

With ``walks`` the network is shown a sample of commin-fast beside y and becomes that receiver's last call. Pictures
have then gone through the link before (`commin.training.walks`), and LPIPS takes some samples for originals: else the
sample would say nothing that y does not, and the network would pass over what makes it look like a photograph.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from PIL import Image
from pydantic import Field, model_validator
from rich.console import Console
from torch import Tensor, nn

from commin.codec.files import load_codec
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import Flow, FlowConfig, flow_from, load_flow, one_step, save_flow
from commin.errors import UserError
from commin.images import from_uint8, grid, to_uint8
from commin.inn.lifting import float32
from commin.metrics.lpips import load_lpips
from commin.metrics.lpips_ensemble import ensemble_lpips
from commin.metrics.pixels import mse
from commin.precision import autocast
from commin.randomness import generator
from commin.training.codec import arrivals
from commin.training.link import MixedLink
from commin.training.paths import RecipePath
from commin.training.prior import set_mode
from commin.training.reader import Pixels
from commin.training.recipe import Recipe
from commin.training.walks import Made, Walker, Walks, WalksConfig, joined, kept, pieces
from commin.units import IMAGE_CHANNELS, linear_to_db
from commin.zoo.load import codec_path
from commin.zoo.receivers import Parts

BATCH = 64
"""Validation pictures at a time."""

LARGER = 0.5
"""Share of pictures that LPIPS sees enlarged."""

SHOWN = 8
"""Validation pictures in the grid."""


class OneStepRecipe(Recipe):
    """Recipe of kind ``one-step``.

    Attributes:
        model: of the zoo: its codec, and its prior to start from.
        init: a flow without an INN, or a one-step network, to start from in the prior's place: a file.
        link: ρ and SNRs, and the PSNR by which squared errors are weighed and y's level is known.
        lpips_weight: λ, against squared errors of about 1.
        lpips_backbone: the network that LPIPS looks through; its weights must be on this machine.
        walks: samples of the model's commin-fast to be shown to the network; None for a network that sees y alone.
    """

    kind: Literal["one-step"]
    model: str
    init: RecipePath | None = None
    link: LinkConfig
    lpips_weight: float = Field(ge=0)
    lpips_backbone: Literal["squeeze", "alex", "vgg"] = "squeeze"
    walks: WalksConfig | None = None

    @model_validator(mode="after")
    def _same_pictures(self) -> Self:
        if self.walks and self.loop.colour:
            raise ValueError("loop.colour: must be 0 with walks, whose pictures are made before")
        return self


class OneStepTraining:
    """Every image of a batch gets its own SNR and noise and, in turn, one of the ρ.

    Raises:
        UserError: the model lacks a part or a ρ, a network of another size, or no weights of the LPIPS backbone.
    """

    averaged: tuple[str, ...] = ("flow",)

    def __init__(self, recipe: OneStepRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.lpips = load_lpips(recipe.lpips_backbone)
        self.codec = load_codec(codec_path(recipe.model)).requires_grad_(False)
        try:
            self.link = MixedLink(self.codec.config, recipe.link)
        except ValueError as error:
            raise UserError(f"{recipe.model}: {error}") from None
        self.flow = _network(recipe, self.link)
        set_mode(self.flow)
        self.phases: Mapping[str, nn.Module] = {"flow": self.flow}
        self.walks: Walks | None = None
        self.validation_walks: Mapping[str, Walks] = {}

    def prepare(self, pixels: Pixels, folder: Path | None, device: torch.device, console: Console) -> Pixels:
        """What is trained on: the pixels, or the walks of the recipe, made in the run's folder if they are not there.

        Without a folder as many are made as a step needs, and kept nowhere.
        """
        wanted, loop = self.recipe.walks, self.recipe.loop
        if wanted is None:
            return pixels
        walker = Walker(self.recipe.model, self.codec.to(device), self.link, device)
        count = wanted.count if folder else loop.batch
        jobs = {f"walks-{piece:05d}": partial(walker.sent, pixels, loop, piece) for piece in pieces(count)}
        points = {
            _name(number, snr): partial(self._validation_walks, walker, number, snr)
            for number in range(len(self.link.bcrs))
            for snr in self.link.snrs_db
        }
        about = self.recipe.model_dump(mode="json", include={"model", "data", "link"}) | {"seed": loop.seed}
        where = folder / "walks" if folder else None
        made = kept(jobs | points if folder else jobs, where, about, console)
        self.walks = joined(made[: len(jobs)], count)
        self.validation_walks = dict(zip(points, made[len(jobs) :], strict=bool(folder)))
        return self.walks

    def _validation_walks(self, walker: Walker, number: int, snr: float) -> Made:
        y = arrivals(self.codec, self.validation, self.link.bcrs[number], snr)
        return walker.pictures(self._point(number, snr), y, "validation", number, snr)

    def _point(self, number: int, snr: float) -> dict[str, Tensor]:
        """The validation pictures as rows of one link."""
        count = len(self.validation)
        bcr, snrs = torch.full((count,), number), torch.full((count,), snr)
        return {"images": from_uint8(self.validation), "bcr": bcr, "snr_db": snrs}

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """As `MixedLink.draw`, with ``larger`` (B,): which pictures LPIPS sees enlarged.

        Of walks, which have been through the link, ``larger`` and ``as_sample`` (B,): which LPIPS takes the sample for.
        """
        count, walks = len(images), self.recipe.walks
        if walks is None:
            return {**self.link.draw(images, rng), "larger": torch.rand(count, generator=rng) < LARGER}
        larger, as_sample = torch.rand(2, count, generator=rng)
        return {"images": images, "larger": larger < LARGER, "as_sample": as_sample < walks.share}

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of MSE / reference MSE + λ·LPIPS, the latter in float32 whatever the precision."""
        if self.walks is None:
            shown, target = (self.link.estimate(self.codec, rows),), rows["images"]
        else:
            x, *shown = rows["images"].split(IMAGE_CHANNELS, 1)
            bcr, snr_db = (part.to(x.device)[rows["number"]] for part in (self.walks.bcr, self.walks.snr_db))
            target = torch.where(rows["as_sample"][:, None, None, None], shown[1], x)
            rows = {"images": x, "bcr": bcr, "snr_db": snr_db, "larger": rows["larger"]}
        pictures = one_step(self.flow, shown[0], rows["bcr"], rows["snr_db"], *shown[1:])
        device = target.device
        with float32(device):
            rng = generator(self.recipe.loop.seed, "lpips", step)
            distances = ensemble_lpips(self.lpips.to(device), pictures.float(), target, rows["larger"], rng)
        return (self.link.relative_error(pictures, rows) + self.recipe.lpips_weight * distances).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """At every ρ and SNR: dB of mean MSE gained over y and LPIPS over y's, 8-bit pictures; x, then y and x̂ of each.

        The score is −1 times the mean over these points of what is minimised, with LPIPS to the originals as it is
        measured. With walks the grid has the sample between y and x̂.
        """
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        device = next(flow.parameters()).device
        originals = from_uint8(self.validation).to(device)
        figures, losses, pictures = {}, [], [list(originals[:SHOWN].cpu())]
        for number, bcr in enumerate(self.link.bcrs):
            for snr in self.link.snrs_db:
                rows = {key: value.to(device) for key, value in self._point(number, snr).items()}
                shown = [part.to(device) for part in self._shown(number, snr)]
                made = self._restore(flow, rows, *shown)
                before, after = (self._distance(part, originals) for part in (shown[0], made))
                gain = mse(shown[0], originals).mean() / mse(made, originals).mean()
                figures[f"dB {bcr} {snr:+g}"] = linear_to_db(float(gain))
                figures[f"lpips ratio {bcr} {snr:+g}"] = after / before
                error = float(self.link.relative_error(made, rows).mean())
                losses.append(error + self.recipe.lpips_weight * after)
                pictures += [list(part[:SHOWN].cpu()) for part in (*shown, made)]
        return {**figures, "score": -sum(losses) / len(losses)}, grid(pictures, scale=2)

    def _shown(self, number: int, snr: float) -> tuple[Tensor, ...]:
        """y of the validation pictures at a point, and with walks their samples."""
        if self.walks is None:
            return (arrivals(self.codec, self.validation, self.link.bcrs[number], snr),)
        return from_uint8(self.validation_walks[_name(number, snr)].pictures).split(IMAGE_CHANNELS, 1)[1:]

    def _restore(self, flow: Flow, rows: dict[str, Tensor], *shown: Tensor) -> Tensor:
        """8-bit pictures in [0, 1]."""
        split = zip(*(part.split(BATCH) for part in (shown[0], rows["bcr"], rows["snr_db"], *shown[1:])), strict=True)
        with autocast(self.recipe.loop.precision, rows["images"].device):
            made = torch.cat([one_step(flow, *part) for part in split])
        return from_uint8(to_uint8(made))

    def _distance(self, a: Tensor, b: Tensor) -> float:
        lpips = self.lpips.to(a.device)
        return float(torch.cat([lpips(x, y) for x, y in zip(a.split(BATCH), b.split(BATCH), strict=True)]).mean())

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged network as bf16 safetensors: it computes in bf16 wherever that is quick."""
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        save_flow(flow, path.with_suffix(".safetensors"), torch.bfloat16, one_step=True)


def _name(number: int, snr: float) -> str:
    """Of the file with the validation pictures' walks at a point."""
    return f"validation-{number}-{snr:+g}"


def _network(recipe: OneStepRecipe, link: MixedLink) -> Flow:
    """Where training begins; raises UserError as `OneStepTraining`."""
    config = FlowConfig(link=recipe.link, sigma=0.0, sample=recipe.walks is not None)
    if recipe.init is None:
        begun = Parts(recipe.model, link.bcrs[0], torch.device("cpu")).prior(torch.float32)
    else:
        flow = load_flow(Path(recipe.init))
        if flow.config.inn:
            raise UserError(f"{recipe.init}: is shown an INN's correction; begin with one that sees y alone")
        if flow.config.sample and not config.sample:
            raise UserError(f"{recipe.init}: is shown a sample; give walks, or begin with one that sees y alone")
        begun = flow.prior
    if begun.size != recipe.data.size:
        named = recipe.init or recipe.model
        raise UserError(f"{named}: a network of {begun.size} pixels, not data.size = {recipe.data.size}")
    return flow_from(begun, config)
