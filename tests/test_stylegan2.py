"""StyleGAN2: modulation, filters, variance, minibatch spread, cuts between blocks, gradients, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from commin.errors import UserError
from commin.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from commin.stylegan2.files import load_generator, save_generator
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.stylegan2.layers import EqualConv, EqualLinear, ModulatedConv, minibatch_std
from commin.stylegan2.resample import blur, downsample, upsample

TAPS = np.array([1, 3, 3, 1]) / 8


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> Generator:
    """A random 32×32 generator whose noise maps and biases matter."""
    torch.manual_seed(0)
    made = Generator(GeneratorConfig(widths=(16, 12, 8, 8), style_dim=16, mapping_layers=2)).eval()
    with torch.no_grad():
        for key, value in made.named_parameters():
            if key.endswith(("strength", "bias")):
                value.add_(0.1 * torch.randn(value.shape))
    return made


def by_scipy(x: Tensor, up: int, down: int, gain: float) -> np.ndarray:
    """`scipy.signal.upfirdn` along both axes: the whole convolution, zeros outside."""
    from scipy.signal import upfirdn

    rows = upfirdn(TAPS * gain, x.numpy(), up, down, axis=-1)
    return np.asarray(upfirdn(TAPS * gain, rows, up, down, axis=-2))


def test_filters_are_those_of_scipy() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    whole = by_scipy(x, 1, 1, 1.0)  # 11×11
    assert np.allclose(blur(x, pad=3), whole)
    assert np.allclose(blur(x, pad=1, gain=2.5), 2.5 * whole[..., 2:-2, 2:-2])
    doubled = by_scipy(x, 2, 1, 2.0)  # samples at 0, 2, … 14, so 15 + 3 long
    assert np.allclose(upsample(x), doubled[..., 1:-1, 1:-1])
    assert np.allclose(downsample(x), whole[..., 2:-1:2, 2:-1:2])


def test_filters_keep_a_constant_inside_and_the_dtype() -> None:
    ones = torch.ones(1, 2, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for made in (upsample(ones), downsample(ones), upsample(ones.float())):
            assert torch.equal(made[..., 2:-2, 2:-2], torch.ones_like(made[..., 2:-2, 2:-2]))
        assert upsample(ones).dtype == torch.bfloat16
        assert upsample(ones.float()).dtype == torch.float32


def kernels(conv: ModulatedConv, w: Tensor) -> Tensor:
    """w''_boik of eqs. (1) to (3), one kernel a picture."""
    scaled = conv.weight[None] * conv.scale * conv.style(w)[:, None, :, None, None]
    return scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() if conv.demodulate else scaled


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_a_grouped_one(up: bool, demodulate: bool) -> None:
    torch.manual_seed(1)
    conv = ModulatedConv(6, 5, 3, 7, up=up, demodulate=demodulate).double()
    x, w = torch.randn(3, 6, 4, 4, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    weight = kernels(conv, w)
    if up:  # zeros between the samples, a true convolution, the filter
        spread = torch.zeros(3, 6, 9, 9, dtype=torch.float64)
        spread[..., 1::2, 1::2] = x
        spread = F.pad(spread, (1, 1, 1, 1))
        whole = F.conv2d(spread.reshape(1, 18, 11, 11), weight.flip(3, 4).flatten(0, 1), groups=3).view(3, 5, 9, 9)
        expected = torch.from_numpy(by_scipy(whole.detach(), 1, 1, 2.0)[..., 2:-2, 2:-2])
    else:
        expected = F.conv2d(x.reshape(1, 18, 4, 4), weight.flatten(0, 1), padding=1, groups=3).view(3, 5, 4, 4)
    y, d = conv(x, w)
    assert torch.allclose(y * d, expected, atol=1e-10)


def test_demodulated_weights_have_unit_norm() -> None:
    torch.manual_seed(2)
    conv = ModulatedConv(32, 16, 3, 8)
    w = 3 * torch.randn(4, 8)
    _, d = conv(torch.randn(4, 32, 4, 4), w)
    weight = conv.weight[None] * conv.scale * conv.style(w)[:, None, :, None, None] * d.unsqueeze(2)
    assert torch.allclose(weight.square().sum((2, 3, 4)), torch.ones(4, 16), atol=1e-5)


def test_equalised_layers_keep_the_variance() -> None:
    torch.manual_seed(3)
    x = torch.randn(64, 256)
    for multiplier in (1.0, 0.01):
        assert EqualLinear(256, 512, multiplier=multiplier)(x).std().item() == pytest.approx(1, abs=0.03)
    activated = EqualLinear(256, 512, activate=True)(x)  # E lrelu² = (1 + 0.2²)/2, times the gain² of 2
    assert activated.square().mean().item() == pytest.approx(1.04, abs=0.05)
    maps = torch.randn(16, 64, 16, 16)
    inner = EqualConv(64, 64, 3)(maps)[..., 1:-1, 1:-1]
    assert inner.square().mean().item() == pytest.approx(1.04, abs=0.06)
    bias = EqualLinear(4, 4, bias=1.0, multiplier=0.01)
    assert torch.allclose(bias(torch.zeros(1, 4)), torch.ones(1, 4))


def test_gradients() -> None:
    torch.manual_seed(4)
    for up in (False, True):
        conv = ModulatedConv(3, 2, 3, 4, up=up).double()
        inputs = torch.randn(2, 3, 4, 4).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()

        def apply(x: Tensor, w: Tensor, conv: ModulatedConv = conv) -> Tensor:
            y, d = conv(x, w)
            return y * d

        assert torch.autograd.gradcheck(apply, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(apply, inputs, fast_mode=True)
    x = torch.randn(4, 2, 8, 8).double().requires_grad_()
    down = EqualConv(2, 3, 3, down=True).double()
    for function in (down, upsample, downsample, lambda x: minibatch_std(x, 2)):
        assert torch.autograd.gradcheck(function, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, x, fast_mode=True)


def test_minibatch_std() -> None:
    x = torch.randn(8, 5, 4, 4)
    spread = minibatch_std(x, 4)
    assert spread.shape == (8, 1, 1, 1)
    for first in (0, 1):  # rows 0, 2, 4, 6 are one group, 1, 3, 5, 7 the other
        expected = x[first::2].std(0, correction=0).mean()
        assert torch.allclose(spread[first::2], expected.expand(4, 1, 1, 1), atol=1e-4)
    assert minibatch_std(x[:1].expand(4, -1, -1, -1), 4).max() <= 1.01e-4
    assert minibatch_std(x[:7], 4).shape == (7, 1, 1, 1)  # 7 is prime: groups of one
    assert minibatch_std(x[:6].bfloat16(), 4).dtype == torch.float32


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_shapes_at_any_power_of_two(blocks: int) -> None:
    config = GeneratorConfig(widths=(8,) * blocks, style_dim=8, mapping_layers=1)
    assert config.size == 4 * 2 ** (blocks - 1)
    made = Generator(config)
    images = made(torch.randn(3, 8))
    assert images.shape == (3, 3, config.size, config.size)
    assert Discriminator(DiscriminatorConfig(widths=config.widths))(images).shape == (3,)
    assert [block.convs[-1].noise.shape[-1] for block in made.blocks] == [4 << index for index in range(blocks)]
    assert config.noise_sizes == [conv.noise.shape[-1] for block in made.blocks for conv in block.convs]


def test_the_public_size() -> None:
    config = GeneratorConfig()
    assert (config.size, config.layers, len(config.noise_sizes)) == (1024, 18, 17)
    assert config.noise_sizes[:4] == [4, 8, 8, 16]
    with torch.device("meta"):
        count = sum(value.numel() for value in Generator(config).parameters())
    assert count == 30_370_060  # config F of the paper


def test_cuts_between_blocks(generator: Generator) -> None:
    config = generator.config
    w = torch.randn(2, config.layers, 16)
    noises = [torch.randn(2, 1, size, size) for size in config.noise_sizes]
    whole = generator.synthesise(w, noises)
    for cut in range(1, len(config.widths)):
        features, skip = generator.run(w, noises, last=cut)
        assert features.shape[1:] == (config.widths[cut - 1], 2 << cut, 2 << cut)
        _, picture = generator.run(w, noises, cut, None, features, skip)
        assert torch.equal((picture + 1) / 2, whole)
        early = w.clone()
        early[:, : 2 * cut - 1] = 0  # rows that blocks from the cut on must not read
        silent = [torch.zeros_like(noise) if i < 2 * cut - 1 else noise for i, noise in enumerate(noises)]
        assert torch.equal(generator.run(early, silent, cut, None, features, skip)[1], picture)
    with pytest.raises(ValueError, match="features"):
        generator.run(w, noises, first=1)
    with pytest.raises(ValueError, match="no block"):
        generator.run(w, noises, last=0)


def test_every_row_and_every_map_matters(generator: Generator) -> None:
    config = generator.config
    w = torch.randn(1, config.layers, 16, requires_grad=True)
    noises = [torch.randn(1, 1, size, size, requires_grad=True) for size in config.noise_sizes]
    generator.synthesise(w, noises).square().sum().backward()
    assert w.grad is not None
    assert (w.grad.abs().sum(2) > 0).all()
    assert all(noise.grad is not None and noise.grad.abs().sum() > 0 for noise in noises)
    stored = [conv.noise for block in generator.blocks for conv in block.convs]
    assert torch.equal(generator.synthesise(w), generator.synthesise(w, stored))


def test_batch_independence(generator: Generator) -> None:
    z = torch.randn(5, 16)
    together = generator(z)
    assert torch.allclose(generator(z[2:3]), together[2:3], atol=1e-5)


def test_bfloat16_is_close_and_the_picture_is_float(generator: Generator) -> None:
    z = torch.randn(4, 16)
    plain = generator(z)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator.to(memory_format=torch.channels_last)(z)
    assert rough.dtype == torch.float32
    assert (rough - plain).square().mean().sqrt() < 0.02 * plain.std()


def test_mapping_ignores_the_length_of_z(generator: Generator) -> None:
    z = torch.randn(2, 16)
    assert torch.allclose(generator.mapping(z), generator.mapping(7 * z), atol=1e-5)


def test_file_round_trip(generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_generator(generator, path, torch.float32)
    z = torch.randn(2, 16)
    assert torch.equal(load_generator(path)(z), generator(z))
    save_generator(generator, path)
    assert (load_generator(path)(z) - generator(z)).square().mean().sqrt() < 1e-2
    with pytest.raises(UserError, match="no such"):
        load_generator(tmp_path / "none.safetensors")


def test_configs_forbid_unknown_keys() -> None:
    with pytest.raises(ValidationError):
        GeneratorConfig(width=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        DiscriminatorConfig(widths=(8, 0))
