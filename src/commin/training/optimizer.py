"""The optimizer of a recipe, and its learning rate at each step."""

import torch
from torch import nn

from commin.training.muon import Muon
from commin.training.recipe import LoopConfig


def learning_rate(config: LoopConfig, images: int) -> float:
    """Of the step that starts at ``images``: linear warm-up, constant, linear to 0 over the last ``decay`` of them."""
    warm = min(1.0, (images + config.batch) / max(config.warmup_images, 1))
    return config.lr * min(warm, max(undecayed(config, images), 0.0))


def undecayed(config: LoopConfig, images: int) -> float:
    """What the decay leaves of the learning rate at ``images``: 1 until it begins, then linear to 0 at the end."""
    return min((config.images - images) / (config.decay * config.images), 1.0) if config.decay else 1.0


def make_optimizer(config: LoopConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe for one network."""
    if config.optimizer == "muon":
        return Muon(module.parameters(), config.lr, config.betas, config.weight_decay)
    return torch.optim.AdamW(module.parameters(), config.lr, config.betas, weight_decay=config.weight_decay, fused=True)
