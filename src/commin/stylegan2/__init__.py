"""StyleGAN2: generator, discriminator, public weights, and inversion by intermediate layer optimisation."""
