"""OpenAI guided-diffusion weights (``.pt``) as a prior: the unconditional layout of 256×256 models, for diffusers.

That layout, of ``256x256_diffusion_uncond.pt`` and of DPS' ``ffhq_10m.pt``: ε and a learned variance (6 channels out,
of which only ε is used), FiLM from t after the second norm, residual blocks that halve and double the size, attention
with heads of 64 channels, linear β from 10⁻⁴ to 0.02 in 1000 steps. Widths, layers and where attention stands are read
off the weights.

Source: Dhariwal and Nichol, arXiv:2105.05233.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from commin.diffusion.prior import Prior
from commin.errors import UserError
from commin.modelfile import load_strict
from commin.units import IMAGE_CHANNELS

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "variance_type": "learned_range",
    "clip_sample": True,
}

RESIDUAL = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip


def load_guided(path: Path, size: int = 256, head: int = 64) -> Prior:
    """Read such a file, without running any code in it, in float32 and evaluation mode.

    Args:
        path: the ``.pt`` file, a state dict.
        size: height and width of its pictures in pixels, which the weights do not tell.
        head: channels of an attention head, likewise.

    Raises:
        UserError: no such file, not a state dict, or another layout: class-conditional, convolutions between sizes, …
    """
    from diffusers import UNet2DModel

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a file of tensors alone ({str(error).splitlines()[0]})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: expected a state dict of tensors")
    try:
        config, converted = convert(tensors, size, head)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    prior = Prior(UNet2DModel.from_config(config), SCHEDULER)
    load_strict(prior.unet, converted, path)
    return prior.eval()


def convert(tensors: dict[str, Tensor], size: int, head: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A guided-diffusion state dict to config and weights of a ``UNet2DModel``. Raises UserError as `load_guided`."""
    config = read_config(tensors, size, head)
    layers = config["layers_per_block"]
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        value = value.float()
        place, leaf = key.rsplit(".", 1)
        if place in OUTSIDE:
            renamed[f"{OUTSIDE[place]}.{leaf}"] = value
            continue
        block, part = _block(place, layers)
        if part in RESIDUAL:
            renamed[f"{block}.{RESIDUAL[part]}.{leaf}"] = value
        elif part == "norm":
            renamed[f"{block}.group_norm.{leaf}"] = value
        elif part == "proj_out":
            renamed[f"{block}.to_out.0.{leaf}"] = value.flatten(1) if leaf == "weight" else value
        elif part == "qkv":
            for name, rows in zip(("to_q", "to_k", "to_v"), _split_heads(value, head), strict=True):
                renamed[f"{block}.{name}.{leaf}"] = rows
        else:
            raise UserError(f"{key}: not a part of this layout")
    return config, renamed


def read_config(tensors: dict[str, Tensor], size: int, head: int) -> dict[str, Any]:
    """The ``UNet2DModel`` config of a state dict. Raises UserError where it is of another layout."""
    if "label_emb.weight" in tensors:
        raise UserError("the network wants a class label; take an unconditional one")
    if any(key.endswith(".0.op.weight") for key in tensors):
        raise UserError("convolutions between the sizes; only residual up and down blocks are known")
    missing = [f"{key}.weight" for key in OUTSIDE if f"{key}.weight" not in tensors]
    if missing:
        raise UserError(f"no {missing[0]}: not a guided-diffusion U-Net")
    ups = sorted(
        int(m[1]) for key in tensors if (m := re.fullmatch(r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight", key))
    )
    outputs = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("output_blocks."))
    each = ups[0] + 1 if ups else outputs  # residual layers of a size on the way up: one more than on the way down
    if each < 2 or outputs % each or ups != list(range(each - 1, outputs - each, each)):
        raise UserError("sizes of unequal depth; not a guided-diffusion U-Net")
    firsts = [1 + level * each for level in range(outputs // each)]
    widths, attention = [], []
    for first in firsts:
        shape = tensors[f"input_blocks.{first}.0.out_layers.3.weight"].shape
        if len(tensors[f"input_blocks.{first}.0.emb_layers.1.weight"]) != 2 * shape[0]:
            raise UserError("t is added, not scale and shift; only the latter is known")
        widths.append(shape[0])
        attention.append(f"input_blocks.{first}.1.qkv.weight" in tensors)
    if any(width % head for width, here in zip(widths, attention, strict=True) if here):
        raise UserError(f"widths {widths} are no multiples of heads of {head} channels")
    return {
        "sample_size": size,
        "in_channels": IMAGE_CHANNELS,
        "out_channels": len(tensors["out.2.weight"]),
        "block_out_channels": tuple(widths),
        "layers_per_block": each - 1,
        "down_block_types": tuple("AttnDownBlock2D" if here else "ResnetDownsampleBlock2D" for here in attention),
        "up_block_types": tuple("AttnUpBlock2D" if here else "ResnetUpsampleBlock2D" for here in attention[::-1]),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "attention_head_dim": head,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 32,
        "attn_norm_num_groups": 32,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def _block(place: str, layers: int) -> tuple[str, str]:
    """Where a layer such as ``input_blocks.4.1.qkv`` stands in diffusers, and which part of its block it is."""
    middle = re.fullmatch(r"middle_block\.([012])\.(.+)", place)
    if middle:
        return ("mid_block.attentions.0" if middle[1] == "1" else f"mid_block.resnets.{int(middle[1]) // 2}"), middle[2]
    found = re.fullmatch(r"(input|output)_blocks\.(\d+)\.([012])\.(.+)", place)
    if not found:
        raise UserError(f"{place}: not a part of this layout")
    side, number, position, part = found[1], int(found[2]), int(found[3]), found[4]
    residual = part in RESIDUAL
    if side == "input":
        level, layer = divmod(number - 1, layers + 1)
        kind = "downsamplers.0" if layer == layers else f"{'resnets' if residual else 'attentions'}.{layer}"
        return f"down_blocks.{level}.{kind}", part
    level, layer = divmod(number, layers + 1)
    if residual and position:
        return f"up_blocks.{level}.upsamplers.0", part
    return f"up_blocks.{level}.{'resnets' if residual else 'attentions'}.{layer}", part


def _split_heads(qkv: Tensor, head: int) -> tuple[Tensor, ...]:
    """The three parts of a projection whose rows go head by head, each its q, k and v: (3C, …) to (C, C) or (C,)."""
    rows = qkv.flatten(1) if qkv.ndim > 1 else qkv
    heads = rows.view(-1, 3, head, *rows.shape[1:])
    return tuple(part.flatten(0, 1).contiguous() for part in heads.unbind(1))
