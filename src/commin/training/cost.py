"""What a training costs, counted on stand-ins for its tensors: nothing is computed, only the weights take memory.

FLOPs are those of matrix products and convolutions, forward and backward, a multiplication and an addition being two.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from commin.randomness import generator
from commin.training.loop import Trainable


@dataclass(frozen=True)
class Cost:
    """Of one training step, for each image.

    Attributes:
        parameters: of all phases.
        flops: an image, forward and backward of all phases, lazy penalties as often as they fall due.
        activations: bytes that the backward pass needs, an image: what is saved for it, each storage once.
        state: bytes of weights, gradients, two moments and the average in float32, whatever the batch.
    """

    parameters: int
    flops: float
    activations: float
    state: int

    def hours(self, images: int, peak: float, share: float) -> float:
        """For so many images on a device of ``peak`` FLOP/s, of which a training gets this share."""
        return self.flops * images / (peak * share) / 3600

    def memory(self, batch: int) -> float:
        """Bytes for a batch at once, without what the libraries need."""
        return self.state + batch * self.activations


def training_cost(
    trainable: Trainable, size: int, batch: int = 2, steps: int = 1, precision: torch.dtype | None = None
) -> Cost:
    """Count a training.

    Args:
        trainable: what is trained; its weights are stand-ins afterwards.
        size: height and width of the pictures.
        batch: images counted together.
        steps: steps counted, from number 0 on: as many as lazy penalties need to come round.
        precision: of autocast; None for float32.
    """
    drawn = trainable.draw(torch.zeros(batch, 3, size, size), generator("cost"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in trainable.phases.values():
            _stand_in(module, mode)
        rows: dict[str, Tensor] = {key: mode.from_tensor(value) for key, value in drawn.items()}
        flops, most = 0, 0
        for step in range(steps):
            for phase in trainable.phases:
                counted, kept = _phase(trainable, phase, rows, step, precision)
                flops, most = flops + counted, max(most, kept)
        weights = sum(p.numel() for module in trainable.phases.values() for p in module.parameters())
        averaged = sum(p.numel() for name in trainable.averaged for p in trainable.phases[name].parameters())
    return Cost(weights, flops / steps / batch, most / batch, 4 * (4 * weights + averaged))


def _stand_in(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put tensors without content in the place of weights and buffers."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(mode.from_tensor(parameter.detach()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer)


def _phase(
    trainable: Trainable, phase: str, rows: dict[str, Tensor], step: int, precision: torch.dtype | None
) -> tuple[int, int]:
    """FLOPs of one phase of a step, and bytes saved for its backward pass beside the weights."""
    for name, module in trainable.phases.items():
        module.requires_grad_(name == phase)
    kept: dict[object, int] = {}
    own = {id(p.untyped_storage()) for p in _parameters(trainable)}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if id(storage) not in own:
            kept[storage._cdata] = storage.nbytes()
        return value

    context: AbstractContextManager[object] = torch.autocast("cpu", precision) if precision else nullcontext()
    with FlopCounterMode(display=False) as counter, ExitStack() as stack:
        stack.enter_context(context)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = trainable.loss(phase, rows, step)
        loss.backward()
    for parameter in _parameters(trainable):
        parameter.grad = None
    return counter.get_total_flops(), sum(kept.values())


def _parameters(trainable: Trainable) -> list[nn.Parameter]:
    return [parameter for module in trainable.phases.values() for parameter in module.parameters()]
