"""Training: one loop, recipes, checkpoints, and one file for each kind of model."""
