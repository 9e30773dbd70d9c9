"""A codec as one safetensors file: weights under ``encoder.`` and ``decoder.``, the config in the metadata."""

from pathlib import Path
from typing import Literal

import torch

from commin.codec.deepjscc import DeepJSCC, DeepJSCCConfig
from commin.modelfile import load_strict, read_config, read_model, write_model

KIND = "deepjscc"


def save_codec(codec: DeepJSCC, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a codec, rounded to ``dtype``; the file appears whole or not at all."""
    write_model(path, KIND, codec.config.model_dump(mode="json"), codec.state_dict(), dtype)


def load_codec(path: Path, ends: Literal["both", "encoder", "decoder"] = "both") -> DeepJSCC:
    """Read a codec, or one end of it, in float32 and evaluation mode.

    Raises:
        UserError: no such file, no codec in it, or weights that do not fit its config.
    """
    config_json, tensors = read_model(path, KIND)
    config = read_config(DeepJSCCConfig, config_json, path)
    codec = DeepJSCC(config, encoder=ends != "decoder", decoder=ends != "encoder")
    wanted = tuple(f"{name}." for name in ("encoder", "decoder") if ends in ("both", name))
    load_strict(codec, {key: value for key, value in tensors.items() if key.startswith(wanted)}, path)
    return codec.eval()
