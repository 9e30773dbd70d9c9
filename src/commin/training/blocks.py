"""Options that act on the blocks of a network: forget activations until the backward pass, or compile.

A block is a smallest module that holds two or more layers with weights: a residual block, an attention, an embedding.
"""

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a network; together they hold nearly all of its layers."""
    inner = [block for child in module.children() for block in blocks(child)]
    if inner:
        yield from inner
    elif sum(1 for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None) > 1:
        yield module


def forget_activations(module: nn.Module) -> None:
    """Keep only the inputs of each block for the backward pass, which computes the rest again: memory for time."""
    for block in blocks(module):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(module: nn.Module) -> None:
    """Compile each block by itself, when it is first run; blocks of the same kind and shapes share the work."""
    for block in blocks(module):
        block.compile(dynamic=False)
