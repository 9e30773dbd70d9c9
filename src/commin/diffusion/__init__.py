"""The diffusion prior: what faces look like, as a denoiser, and the ways to walk from noise to a picture with it."""
