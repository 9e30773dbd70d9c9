"""CommIN: pictures over terrible radio links, restored by an INN-guided diffusion model (arXiv:2310.01130)."""

__version__ = "0.1.0"
