"""Public priors: guided-diffusion files against a re-statement of their layers; the Hub's configs and old names."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from commin.diffusion.guided import convert, load_guided
from commin.diffusion.prior import Prior, load_prior
from commin.diffusion.sources import prior_folder
from commin.errors import UserError
from commin.training.paths import resolve

Shapes = dict[str, tuple[int, ...]]

FFHQ = {"width": 128, "multiples": (1, 1, 2, 2, 4, 4), "layers": 1, "attention": (16,), "size": 256}
IMAGENET = {"width": 256, "multiples": (1, 1, 2, 2, 4, 4), "layers": 2, "attention": (8, 16, 32), "size": 256}
SMALL = {"width": 32, "multiples": (1, 2, 2), "layers": 1, "attention": (8, 4), "size": 16}
DEEPER = {"width": 32, "multiples": (1, 2), "layers": 2, "attention": (8,), "size": 16}


def conv(name: str, inputs: int, outputs: int, kernel: tuple[int, ...] = (3, 3)) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def residual_shapes(name: str, inputs: int, outputs: int, embedding: int) -> Shapes:
    both = {"in_layers.0": inputs, "out_layers.0": outputs}
    norms = {f"{name}.{part}.{leaf}": (both[part],) for part in both for leaf in ("weight", "bias")}
    shapes = norms | conv(f"{name}.in_layers.2", inputs, outputs) | conv(f"{name}.out_layers.3", outputs, outputs)
    shapes |= conv(f"{name}.emb_layers.1", embedding, 2 * outputs, ())
    return shapes | (conv(f"{name}.skip_connection", inputs, outputs, (1, 1)) if inputs != outputs else {})


def attention_shapes(name: str, channels: int) -> Shapes:
    shapes = conv(f"{name}.qkv", channels, 3 * channels, (1,)) | conv(f"{name}.proj_out", channels, channels, (1,))
    return shapes | {f"{name}.norm.{leaf}": (channels,) for leaf in ("weight", "bias")}


def layout(width: int, multiples: tuple[int, ...], layers: int, attention: tuple[int, ...], size: int) -> Shapes:
    """Every tensor of a guided-diffusion U-Net with these flags, as the architecture says."""
    embedding = 4 * width
    shapes = conv("time_embed.0", width, embedding, ()) | conv("time_embed.2", embedding, embedding, ())
    shapes |= conv("input_blocks.0.0", 3, width)
    number, now, skips, side = 1, width, [width], size
    for level, multiple in enumerate(multiples):
        for _ in range(layers):
            shapes |= residual_shapes(f"input_blocks.{number}.0", now, multiple * width, embedding)
            now = multiple * width
            if side in attention:
                shapes |= attention_shapes(f"input_blocks.{number}.1", now)
            skips.append(now)
            number += 1
        if level + 1 < len(multiples):
            shapes |= residual_shapes(f"input_blocks.{number}.0", now, now, embedding)
            skips.append(now)
            side, number = side // 2, number + 1
    shapes |= residual_shapes("middle_block.0", now, now, embedding) | attention_shapes("middle_block.1", now)
    shapes |= residual_shapes("middle_block.2", now, now, embedding)
    number = 0
    for level, multiple in reversed(list(enumerate(multiples))):
        for layer in range(layers + 1):
            shapes |= residual_shapes(f"output_blocks.{number}.0", now + skips.pop(), multiple * width, embedding)
            now, position = multiple * width, 1
            if side in attention:
                shapes |= attention_shapes(f"output_blocks.{number}.1", now)
                position = 2
            if level and layer == layers:
                shapes |= residual_shapes(f"output_blocks.{number}.{position}", now, now, embedding)
                side *= 2
            number += 1
    return shapes | {"out.0.weight": (now,), "out.0.bias": (now,)} | conv("out.2", width, 6)


def weights(shapes: Shapes) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {key: 0.15 * torch.randn(shape, generator=rng) for key, shape in shapes.items()}


class Restated:
    """The equations of the network, from its paper, on a dictionary of weights; heads of ``head`` channels."""

    def __init__(self, w: dict[str, Tensor], head: int) -> None:
        self.w, self.head = w, head

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def conv(self, name: str, x: Tensor) -> Tensor:
        kernel = self.w[f"{name}.weight"]
        return F.conv2d(x, kernel, self.w[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        grouped = x.reshape(len(x), 32, -1)
        spread = grouped.var(2, correction=0, keepdim=True)
        flat = ((grouped - grouped.mean(2, keepdim=True)) / (spread + 1e-5).sqrt()).reshape(x.shape)
        return flat * self.w[f"{name}.weight"].view(1, -1, 1, 1) + self.w[f"{name}.bias"].view(1, -1, 1, 1)

    def residual(self, name: str, x: Tensor, embedding: Tensor, change: str = "") -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if change == "down":
            x, h = (each.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)) for each in (x, h))
        elif change == "up":
            x, h = (each.repeat_interleave(2, 2).repeat_interleave(2, 3) for each in (x, h))
        h = self.conv(f"{name}.in_layers.2", h)
        scale, shift = self.linear(f"{name}.emb_layers.1", F.silu(embedding))[..., None, None].chunk(2, 1)
        h = self.norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        return (self.conv(f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in self.w else x) + h

    def attend(self, name: str, x: Tensor) -> Tensor:
        count, channels, *_ = x.shape
        rows = self.w[f"{name}.qkv.weight"][:, :, 0]
        qkv = torch.einsum("oc,bcp->bop", rows, self.norm(f"{name}.norm", x).flatten(2))
        qkv = qkv + self.w[f"{name}.qkv.bias"][:, None]
        parts = []
        for q, k, v in (part.split(self.head, 1) for part in qkv.split(3 * self.head, 1)):
            parts.append(torch.einsum("bij,bcj->bci", (q.mT @ k / math.sqrt(self.head)).softmax(2), v))
        mixed = torch.einsum("oc,bcp->bop", self.w[f"{name}.proj_out.weight"][:, :, 0], torch.cat(parts, 1))
        return x + (mixed + self.w[f"{name}.proj_out.bias"][:, None]).view(count, channels, *x.shape[2:])

    def __call__(self, x: Tensor, t: Tensor, multiples: tuple[int, ...], layers: int) -> Tensor:
        width = self.w["time_embed.0.weight"].shape[1]
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
        embedding = self.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1))
        embedding = self.linear("time_embed.2", F.silu(embedding))

        def then_attend(name: str, h: Tensor) -> Tensor:
            return self.attend(name, h) if f"{name}.qkv.weight" in self.w else h

        h = self.conv("input_blocks.0.0", x)
        skips, number = [h], 1
        for level in range(len(multiples)):
            for _ in range(layers):
                h = then_attend(f"input_blocks.{number}.1", self.residual(f"input_blocks.{number}.0", h, embedding))
                skips.append(h)
                number += 1
            if level + 1 < len(multiples):
                h = self.residual(f"input_blocks.{number}.0", h, embedding, "down")
                skips.append(h)
                number += 1
        h = self.residual("middle_block.0", h, embedding)
        h = self.residual("middle_block.2", self.attend("middle_block.1", h), embedding)
        for number in range(len(multiples) * (layers + 1)):
            h = self.residual(f"output_blocks.{number}.0", torch.cat([h, skips.pop()], 1), embedding)
            h = then_attend(f"output_blocks.{number}.1", h)
            for position in (1, 2):
                if f"output_blocks.{number}.{position}.in_layers.0.weight" in self.w:
                    h = self.residual(f"output_blocks.{number}.{position}", h, embedding, "up")
        return self.conv("out.2", F.silu(self.norm("out.0", h)))


@pytest.mark.parametrize("flags", [SMALL, DEEPER])
def test_converted_network_is_the_restated_one(flags: dict[str, Any], tmp_path: Path) -> None:
    tensors = weights(layout(**flags))
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    prior = load_guided(path, flags["size"], head=16)
    rng = torch.Generator().manual_seed(1)
    x, t = torch.randn(3, 3, 16, 16, generator=rng), torch.tensor([0, 431, 999])
    with torch.no_grad():
        whole = prior.unet(x, t, return_dict=False)[0]
        expected = Restated(tensors, 16)(x, t, flags["multiples"], flags["layers"])
        assert float((whole - expected).norm() / expected.norm()) < 1e-5
        assert torch.equal(prior.output(x, t), whole[:, :3])
    assert prior.prediction == "epsilon"
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - betas).cumprod(0)[[0, 499, 999]].float()
    assert torch.allclose(prior.schedule.signal(torch.tensor([0, 499, 999])).flatten(), kept, rtol=1e-4)


@pytest.mark.parametrize(("flags", "millions"), [(FFHQ, 93.6), (IMAGENET, 552.8)])
def test_published_layouts_fit_key_by_key(flags: dict[str, Any], millions: float) -> None:
    from diffusers import UNet2DModel

    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in layout(**flags).items()}
        config, converted = convert(tensors, 256, 64)
        own = UNet2DModel.from_config(config)
    assert {key: value.shape for key, value in converted.items()} == {k: v.shape for k, v in own.state_dict().items()}
    assert sum(value.numel() for value in tensors.values()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_file_becomes_a_folder_once(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    flags = {**SMALL, "width": 64}
    tensors = weights(layout(**flags))
    torch.save({key: value.half() for key, value in tensors.items()}, path)
    folder = prior_folder(path)
    prior = load_prior(path)
    assert isinstance(prior, Prior)
    assert (prior_folder(path), prior.size) == (folder, 256)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([7])
    halves = {key: value.half().float() for key, value in tensors.items()}
    with torch.no_grad():
        expected = Restated(halves, 64)(x, t, flags["multiples"], 1)
        assert torch.allclose(prior.output(x, t), expected[:, :3], atol=1e-4 * float(expected.abs().max()))


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code was run",))


def test_bad_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pt"
    good = weights(layout(**SMALL))
    cases: list[tuple[Any, str]] = [
        (Evil(), "tensors alone"),
        ({"a": 1}, "state dict"),
        ({"a.weight": torch.zeros(1)}, "not a guided-diffusion"),
        ({**good, "label_emb.weight": torch.zeros(1)}, "class label"),
        ({**good, "input_blocks.2.0.op.weight": torch.zeros(1)}, "residual up and down"),
        ({**good, "extra.weight": torch.zeros(1)}, "extra"),
        ({key: value for key, value in good.items() if key != "out.0.bias"}, "missing"),
    ]
    for content, message in cases:
        torch.save(content, path)
        with pytest.raises(UserError, match=message) as caught:
            load_guided(path, 16, 16)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"no file of torch")
    with pytest.raises(UserError, match="tensors alone"):
        load_guided(path)
    with pytest.raises(UserError, match="no such file"):
        load_prior(tmp_path / "none.pt")
    assert "code was run" not in capsys.readouterr().out


CELEBAHQ = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "block_out_channels": [128, 128, 256, 256, 512, 512], "center_input_sample": False,
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"], "downsample_padding": 0,
    "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 256,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}  # fmt: skip
CELEBAHQ_SCHEDULER = {
    "_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
    "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_small",
}  # fmt: skip


def test_config_of_google_ddpm_celebahq_256_is_a_prior() -> None:
    from diffusers import UNet2DModel

    with torch.device("meta"):
        unet = UNet2DModel.from_config(CELEBAHQ)
    prior = Prior(unet, CELEBAHQ_SCHEDULER)
    assert (prior.size, prior.patch, prior.prediction) == (256, 1, "epsilon")
    assert sum(p.numel() for p in prior.parameters()) == 113_673_219
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert float(prior.schedule.signal(torch.tensor([999]))) == pytest.approx(float((1 - betas).prod()), rel=1e-3)


def test_folder_with_the_first_names_of_attention_loads(tmp_path: Path) -> None:
    """The same config, narrow, as a flat folder with the key names of its year."""
    from diffusers import UNet2DModel

    config = {**CELEBAHQ, "block_out_channels": [32] * 6, "sample_size": 64}
    torch.manual_seed(0)
    unet = UNet2DModel.from_config(config).eval()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, value in unet.state_dict().items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        tensors[key] = value.contiguous()
    assert "mid_block.attentions.0.proj_attn.weight" in tensors
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(CELEBAHQ_SCHEDULER))
    prior = load_prior(tmp_path)
    x, t = torch.randn(1, 3, 64, 64), torch.tensor([500])
    with torch.no_grad():
        assert torch.allclose(prior.output(x, t), unet(x, t).sample, atol=1e-5)


def test_hub_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path))
    assert prior_folder("hub:google/ddpm-celebahq-256") == tmp_path
    assert prior_folder(Path("hub:google/ddpm-ema-celebahq-256")) == tmp_path
    assert asked == ["google/ddpm-celebahq-256", "google/ddpm-ema-celebahq-256"]

    class Info:
        context = {"folder": "recipes"}  # noqa: RUF012

    assert resolve("hub:google/ddpm-celebahq-256", Info()) == "hub:google/ddpm-celebahq-256"  # type: ignore[arg-type]

    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("no\nnet")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match="cannot be fetched"):
        prior_folder("hub:google/none")
