"""The perceptual networks with random weights, in our code and in PyTorch, for the tests of perceptual metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.metrics import backbones
from i2i_jax.metrics.backbones import VGG16, AlexNet, Extractor, SqueezeNet

SQUEEZES = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}

# By torchvision's index of the layer: output channels, input channels and side of the kernel.
CONVOLUTIONS = {
    AlexNet: {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
    VGG16: {
        index: (64 * outputs, 64 * inputs or 3, 3)
        for index, (inputs, outputs) in {
            0: (0, 1), 2: (1, 1), 5: (1, 2), 7: (2, 2), 10: (2, 4), 12: (4, 4), 14: (4, 4),
            17: (4, 8), 19: (8, 8), 21: (8, 8), 24: (8, 8), 26: (8, 8), 28: (8, 8),
        }.items()
    },
    SqueezeNet: {0: (64, 3, 3)},
}  # fmt: skip
CHANNELS = {AlexNet: (64, 192, 384, 256, 256), VGG16: (64, 128, 256, 512, 512), SqueezeNet: (64, 128, 256, 384, 384, 512, 512)}


def shapes_of(network) -> dict[str, tuple[int, ...]]:
    """The shapes in torchvision's state dict, without the classifier."""
    kernels = {f"features.{i}": (n, m, k, k) for i, (n, m, k) in CONVOLUTIONS[network].items()}
    if network is SqueezeNet:
        inputs = 64
        for i, squeeze in SQUEEZES.items():
            expand = 4 * squeeze
            kernels[f"features.{i}.squeeze"] = (squeeze, inputs, 1, 1)
            kernels[f"features.{i}.expand1x1"] = (expand, squeeze, 1, 1)
            kernels[f"features.{i}.expand3x3"] = (expand, squeeze, 3, 3)
            inputs = 2 * expand
    return {f"{key}.{leaf}": kernel if leaf == "weight" else kernel[:1] for key, kernel in kernels.items() for leaf in ("weight", "bias")}


@functools.cache
def state_of(network) -> dict[str, np.ndarray]:
    """Random weights that preserve the variance of activations, the same on every machine, since RandomState never changes."""
    rng = np.random.RandomState(0)
    uniform = {key: rng.random_sample(shape) - 0.5 for key, shape in shapes_of(network).items()}
    return {key: x * np.sqrt(24 / x[0].size) if x.ndim == 4 else x for key, x in uniform.items()}  # float64


@functools.cache
def extractor_of(network, preprocess=backbones.unscaled, dtype=np.float32) -> Extractor:
    state = {key: value.astype(dtype) for key, value in state_of(network).items()}
    params = backbones.params_from_torchvision(network(), state, "random.npz")
    return Extractor(jax.tree.map(jnp.asarray, params), network(), preprocess)


maps_of = jax.jit(Extractor.maps)


def images_of(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def torch_maps(network, images: np.ndarray) -> list[np.ndarray]:
    """The feature maps in PyTorch in float64, written after the layer lists of torchvision and LPIPS. Images are NHWC."""
    torch = pytest.importorskip("torch", reason="held to PyTorch")
    state = {key: torch.from_numpy(value) for key, value in state_of(network).items()}

    def conv(x, key, **options):
        return torch.nn.functional.conv2d(x, state[f"features.{key}.weight"], state[f"features.{key}.bias"], **options).relu()

    def pool(x, size, **options):
        return torch.nn.functional.max_pool2d(x, size, 2, **options)

    def fire(x, i):
        x = conv(x, f"{i}.squeeze")
        return torch.cat([conv(x, f"{i}.expand1x1"), conv(x, f"{i}.expand3x3", padding=1)], 1)

    x, maps = torch.from_numpy(images.transpose(0, 3, 1, 2)), []
    if network is AlexNet:
        for i, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            x = conv(pool(x, 3) if i in (3, 6) else x, i, stride=stride, padding=padding)
            maps.append(x)
    elif network is VGG16:
        for stage in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = pool(x, 2) if maps else x
            for i in stage:
                x = conv(x, i, padding=1)
            maps.append(x)
    else:
        maps.append(conv(x, 0, stride=2))
        for fires in ((3, 4), (6, 7), (9,), (10,), (11,), (12,)):
            x = pool(maps[-1], 3, ceil_mode=True) if fires[0] in (3, 6, 9) else maps[-1]
            maps.append(functools.reduce(fire, fires, x))
    return [x.numpy().transpose(0, 2, 3, 1) for x in maps]
