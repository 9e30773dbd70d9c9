"""A codec as one safetensors file: weights under ``encoder.`` and ``decoder.``, the config in the metadata.

A decoder trained further by itself is a file of another kind: its weights alone, with the config of the whole codec.
"""

from pathlib import Path
from typing import Literal

import torch

from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC, make_decoder
from commin.codec.ends import Decoder
from commin.modelfile import load_strict, read_config, read_model, write_model

KIND = "deepjscc"
DECODER_KIND = "deepjscc-decoder"


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


def save_decoder(decoder: Decoder, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a decoder alone, as `save_codec` does a codec."""
    write_model(path, DECODER_KIND, decoder.config.model_dump(mode="json"), decoder.state_dict(), dtype)


def load_decoder(path: Path) -> Decoder:
    """Read a decoder that `save_decoder` wrote, in float32 and evaluation mode. Raises UserError as `load_codec`."""
    config_json, tensors = read_model(path, DECODER_KIND)
    decoder = make_decoder(read_config(DeepJSCCConfig, config_json, path))
    load_strict(decoder, tensors, path)
    return decoder.eval()
