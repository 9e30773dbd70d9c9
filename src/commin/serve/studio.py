"""The work behind the page: a framed photo through the links, each result published as soon as it is there."""

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import commin
from commin.channels import CHANNELS
from commin.codec.files import load_codec
from commin.evaluation.panel import Cell, panel
from commin.evaluation.records import Record
from commin.evaluation.single import record_lines, single_record
from commin.link import Transmission
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.receivers.expected_error import deviation
from commin.serve.line import Job, Part
from commin.serve.links import Links
from commin.serve.pictures import MAP_TOP, encoded, heat, image_url
from commin.serve.task import FADE_DB, MAX_SAMPLES, Task
from commin.units import capacity_bits, db_to_linear
from commin.zoo import receivers as registry
from commin.zoo.load import codec_path, default_receivers

QUICK = ("deepjscc", "commin-fast")
"""Receivers fast enough to follow a slider."""

DEFAULT_BCR = "1/48"


class Studio:
    """One model's links, at work for one job at a time."""

    def __init__(self, model: str = "faces64", device: torch.device | str = "cpu") -> None:
        """Read the codec's configuration. Raises UserError if there is no such model."""
        self.model = model
        self.links = Links(model, device, self._progress)
        self.config = load_codec(codec_path(model)).config
        self._job: Job | None = None
        self._label = ""

    def options(self) -> dict[str, Any]:
        """What a page may ask for, as plain JSON values; receivers only where their weights are on this machine."""
        ready = {str(bcr): registry.complete(self.model, bcr) for bcr in self.config.bcrs}
        n = 3 * self.config.image_size**2
        default = DEFAULT_BCR if DEFAULT_BCR in ready else next(iter(ready))
        return {
            "model": self.model,
            "size": self.config.image_size,
            "n": n,
            "bcrs": [{"bcr": str(bcr), "k": int(n * bcr), "receivers": ready[str(bcr)]} for bcr in self.config.bcrs],
            "bcr": default,
            "chosen": default_receivers(self.model, default),
            "receivers": [
                {
                    "name": name,
                    "samples": name in registry.SAMPLERS,
                    "naturalness": name in registry.NATURALNESS,
                    "quick": name in QUICK,
                }
                for name in registry.RECEIVERS
                if any(name in names for names in ready.values())
            ],
            "channels": list(CHANNELS),
            "snr_range_db": list(self.config.snr_range_db),
            "max_samples": MAX_SAMPLES,
            "version": commin.__version__,
        }

    def warm_up(self, job: Job) -> None:
        """Load and run what the page shows first, so that the first visitor does not wait for it."""
        options, side = self.options(), self.config.image_size
        picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        for name in options["chosen"]:
            job.check()
            self._label = "warming up"
            restored = self.links.get(options["bcr"], name, "awgn", None).link.transmit(picture).images
            if lpips := try_lpips():
                lpips(restored.cpu(), picture)

    def run(self, job: Job, task: Task, image: Tensor) -> None:
        """Send image (3, H, W) as the task says. Raises UserError if it cannot, CancelledError if it shall not."""
        self._job = job
        try:
            records: list[Record] = []
            cells = [Cell(image, "original", (f"{image.shape[-1]} x {image.shape[-2]}",))]
            for name in task.receivers:
                record, result = self._restore(task, name, image)
                if not records:
                    job.publish(_symbols(result, task.snr_db))
                job.publish(_restored(record, result, image))
                cells.append(Cell(result.images[0].cpu(), f"{task.snr_db:g} dB, {name}", record_lines(record)))
                records.append(record)
            self._files(job, task, records, cells)
            for name in task.receivers if task.fade else ():
                job.publish(self._fade(task, name, image))
        finally:
            self._job = None

    def _progress(self, done: int, total: int) -> None:
        if self._job is not None:
            self._job.report(done, total, self._label)

    def _transmit(
        self, task: Task, name: str, label: str, images: Tensor, snr_db: float | Sequence[float], samples: int
    ) -> Transmission:
        assert self._job is not None
        self._label = label
        self._job.report(0, 0, label)
        link = self.links.get(task.bcr, name, task.channel, task.naturalness).link
        return link.transmit(images, snr_db, task.seed, samples=samples)

    def _restore(self, task: Task, name: str, image: Tensor) -> tuple[Record, Transmission]:
        samples = task.samples if name in registry.SAMPLERS else 1
        loaded = self.links.get(task.bcr, name, task.channel, task.naturalness)
        begin = time.perf_counter()
        result = self._transmit(task, name, name, image[None], task.snr_db, samples)
        record = single_record(
            image, result, loaded.link, name="upload", model=self.model, system=name, channel=task.channel,
            snr_db=task.snr_db, design_snr_db=task.snr_db, seed=task.seed, seconds=time.perf_counter() - begin,
            weights=loaded.weights, note=f"{samples} samples" if samples > 1 else "",
        )  # fmt: skip
        return record, result

    def _fade(self, task: Task, name: str, image: Tensor) -> Part:
        """The picture at every SNR of `FADE_DB`, the noise the same but for its size."""
        batch = image.expand(len(FADE_DB), -1, -1, -1)
        restored = self._transmit(task, name, f"{name}, fade", batch, FADE_DB, 1).images.cpu()
        steps = [
            {"snr_db": snr, "picture": image_url(picture), "psnr_db": round(value, 2)}
            for snr, picture, value in zip(FADE_DB, restored, psnr(restored, batch).tolist(), strict=True)
        ]
        return {"kind": "fade", "receiver": name, "steps": steps}

    @staticmethod
    def _files(job: Job, task: Task, records: Sequence[Record], cells: Sequence[Cell]) -> None:
        heading = f"CommIN   BCR {task.bcr}, k = {records[0].k} symbols, {task.channel}, seed {task.seed}"
        plain = json.dumps([record.as_json() for record in records], indent=1, ensure_ascii=False) + "\n"
        job.files["commin.png"] = ("image/png", encoded(panel([cells], heading)))
        job.files["commin.json"] = ("application/json", plain.encode())
        job.publish({"kind": "files", "names": list(job.files)})


def ideal_bits(result: Transmission, snr_db: float) -> float:
    """Σ log2(1 + |h|²·SNR), the bits that an ideal code, told the gains, carries over the symbols of one picture."""
    csi, k = result.received.csi, result.use.symbols
    if csi is None or csi.gains is None:
        return capacity_bits(k, snr_db)
    gains = csi.gains[0].abs().square().expand(k)
    return float((1 + gains * db_to_linear(snr_db)).log2().sum())


def _symbols(result: Transmission, snr_db: float) -> Part:
    received, sent = result.received.symbols[0].cpu(), result.symbols[0].cpu()
    return {
        "kind": "symbols",
        "received": [[round(z.real, 3), round(z.imag, 3)] for z in received.tolist()],
        "sent": [[round(z.real, 3), round(z.imag, 3)] for z in sent.tolist()],
        "k": result.use.symbols,
        "n": result.use.samples,
        "measured_snr_db": round(float(result.measured_snr_db), 2),
        "ideal_bits": round(ideal_bits(result, snr_db)),
    }


def _restored(record: Record, result: Transmission, image: Tensor) -> Part:
    pictures = result.samples[0].cpu()
    part: Part = {"kind": "restored", "picture": image_url(pictures[0]), "record": record.as_json()}
    if len(pictures) > 1:
        mean = pictures.mean(0)
        part["samples"] = [image_url(picture) for picture in pictures]
        part["mean"] = image_url(mean)
        part["mean_psnr_db"] = round(float(psnr(mean[None], image[None])), 2)
        part["spread"] = _map(deviation(pictures))
        if result.expected_error is not None:
            part["error"] = _map(result.expected_error[0].cpu())
    return part


def _map(values: Tensor) -> Part:
    return {"picture": image_url(heat(values)), "mean": round(float(values.mean()), 4), "top": MAP_TOP}
