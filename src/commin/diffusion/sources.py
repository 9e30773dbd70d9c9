"""Where a prior can come from: a diffusers folder, a guided-diffusion file, or a repository of the Hugging Face Hub.

The latter two become a diffusers folder: the file converted into COMMIN_HOME/cache, the repository downloaded by
``huggingface_hub`` into its own cache.
"""

import hashlib
from pathlib import Path

from commin.diffusion.guided import load_guided
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.home import home

HUB = "hub:"
"""What the name of a repository of the Hub begins with: ``hub:google/ddpm-celebahq-256``."""


def prior_folder(source: str | Path) -> Path:
    """The diffusers folder of a prior.

    Args:
        source: the folder itself; a guided-diffusion ``.pt`` file of 256×256 pictures; or ``hub:OWNER/NAME``.

    Raises:
        UserError: the file cannot be converted, or the repository cannot be fetched.
    """
    if str(source).startswith(HUB):
        return _download(str(source).removeprefix(HUB))
    path = Path(source)
    if path.suffix != ".pt":
        return path
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|v1".encode()).hexdigest()[:24]
    folder = home() / "cache" / f"prior-{key}"
    if not folder.is_dir():
        import torch

        folder.parent.mkdir(parents=True, exist_ok=True)
        save_prior(load_guided(path), folder, torch.float32)
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*/*.json", "*/*.safetensors"]))
    except Exception as error:  # the Hub's and its client's errors have no common base
        raise UserError(f"{HUB}{name}: cannot be fetched ({' '.join(str(error).split())[:200]})") from None
