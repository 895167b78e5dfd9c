"""Tiles cover an image, their weights sum to one, and a network with a finite receptive field gives the same by tiles as on the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.config import ConfigError
from i2i_jax.inference import tiling
from i2i_jax.models import ResNet, UNet


def blended(tiles, grid) -> np.ndarray:
    return np.concatenate(list(tiling.blend(tiles, grid)), 1)


def samples_of(tiles):
    return [np.stack([tile, 255.0 - tile]).astype(np.float32) for tile in tiles]


def random_options(seed: int):
    """An image size and the options of a grid, most of them valid."""
    rng = np.random.default_rng(seed)
    multiple = int(rng.choice([1, 4, 16, 64]))
    height, width = (int(x) for x in rng.integers(1, 300, 2))
    radius = None if seed % 2 else int(rng.integers(0, 20))
    return (
        height,
        width,
        {"size_multiple": multiple, "receptive_radius": radius, "tile": multiple * int(rng.integers(1, 200 // multiple + 1))},
    )


def test_blending_restores_a_cut_image():
    valid = 0
    for seed in range(100):
        height, width, options = random_options(seed)
        try:
            grid = tiling.grid(height, width, **options)
        except ConfigError:
            continue
        valid += 1
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 2), np.uint8)
        tiles = list(tiling.cut(image, grid))
        assert len(tiles) == grid.number
        assert {tile.shape for tile in tiles} == {(*grid.tile, 2)}
        assert all(side % options["size_multiple"] == 0 and side <= max(options["tile"], options["size_multiple"]) for side in grid.tile)
        restored = blended(samples_of(tiles), grid)
        assert (restored.shape, restored.dtype) == ((2, height, width, 2), np.float32)
        np.testing.assert_allclose(restored, np.stack([image, 255.0 - image]), atol=1e-3)
        for axis in grid:
            total = np.zeros(axis.padded)
            for start, weight in zip(axis.starts, axis.weights, strict=True):
                assert start % (1 if options["receptive_radius"] is None else options["size_multiple"]) == 0
                total[start : start + axis.tile] += weight
            np.testing.assert_allclose(total, 1, atol=1e-6)
            assert (axis.weights >= 0).all()
    assert valid > 50


def test_differences_between_tiles_are_blended_gradually():
    grid = tiling.grid(64, 300, size_multiple=64, tile=64)
    steps = [np.full((1, 64, 64, 1), 100.0 * (i % 2), np.float32) for i in range(grid.number)]
    row = blended(steps, grid)[0, 0, :, 0]
    assert row.min() < 1 and row.max() > 99
    assert np.abs(np.diff(row)).max() < 100 * np.pi / 2 / 16 + 1  # the steepest slope of a raised cosine 16 pixels wide


def test_pixels_within_the_receptive_radius_of_a_cut_are_discarded():
    grid = tiling.grid(100, 100, size_multiple=4, receptive_radius=10, tile=40)
    for axis in grid:
        assert not axis.weights[1:, :10].any() and not axis.weights[:-1, -10:].any()
        assert axis.weights[0, :10].all() and axis.weights[-1, -10:].all()


@pytest.mark.parametrize("size", [(64, 64), (40, 64), (1, 1)])
def test_an_image_no_larger_than_a_tile_is_not_cut(size):
    assert tiling.grid(*size, size_multiple=4, receptive_radius=3, tile=64).number == 1
    alone, tiled = tiling.grid(*size, size_multiple=4), tiling.grid(*size, size_multiple=4, tile=64)
    assert alone.tile == tiled.tile


@pytest.mark.parametrize(
    ("tile", "size_multiple", "receptive_radius", "message"),
    [
        (100, 64, None, "--tile is 100: must be a multiple of 64, at least 64"),
        (64, 4, 84, "--tile is 64: must be a multiple of 4, at least 196"),
    ],
)
def test_invalid_tiles(tile, size_multiple, receptive_radius, message):
    with pytest.raises(ConfigError) as error:
        tiling.grid(500, 500, size_multiple=size_multiple, receptive_radius=receptive_radius, tile=tile)
    assert str(error.value) == message


def local_network(norm: str, upsample: str):
    """A small ResNet without statistics over the image: (network, image -> output [h, w, c])."""
    network = ResNet(channels=2, blocks=1, width=4, norm=norm, upsample=upsample, kernel_init=jax.nn.initializers.he_normal())
    variables = network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), use_running_average=True)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(lambda x: 0.5 * x + 0.1, variables["batch_stats"])
    return network, jax.jit(lambda image: network.apply(variables, image[None], use_running_average=True)[0])


@pytest.mark.parametrize(("norm", "upsample"), [("none", "transposed"), ("batch", "transposed"), ("none", "bilinear"), ("none", "nearest")])
def test_tiles_of_a_local_network_equal_the_whole_image(norm, upsample):
    network, run = local_network(norm, upsample)
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    grid = tiling.grid(90, 130, size_multiple=network.size_multiple, receptive_radius=network.receptive_radius, tile=76)
    assert grid.number > 3
    tiled = blended((np.asarray(run(tile / np.float32(127.5) - 1))[None] for tile in tiling.cut(image, grid)), grid)[0]
    padded = np.pad(image, ((0, 2), (0, 2), (0, 0)), mode="symmetric")
    whole = np.asarray(run(padded / np.float32(127.5) - 1))[:90, :130]
    assert whole.std() > 0.05
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    # Discarding less than the receptive radius gives another result.
    narrow = tiling.grid(90, 130, size_multiple=network.size_multiple, receptive_radius=network.receptive_radius // 4, tile=76)
    other = blended((np.asarray(run(tile / np.float32(127.5) - 1))[None] for tile in tiling.cut(image, narrow)), narrow)[0]
    assert np.abs(other - whole).max() > 1e-3


@pytest.mark.parametrize("upsample", ["transposed", "bilinear", "nearest"])
def test_receptive_radius_of_a_resnet(upsample):
    network, _ = local_network("none", upsample)
    image = jnp.full((1, 120, 8, 3), 1e-3)
    variables = jax.tree.map(lambda x: 0.1 * jnp.abs(x), network.init(jax.random.key(0), image))  # so that no ReLU is inactive
    column = jax.jit(jax.jacobian(lambda rows: network.apply(variables, image + rows[None, :, None, None])[0, 48:72, 4, 0]))
    seen = np.asarray(column(jnp.zeros(120))) != 0
    furthest = max(max(np.abs(np.flatnonzero(row) - position)) for position, row in enumerate(seen, 48))
    assert furthest == network.receptive_radius


def test_a_unet_has_no_receptive_radius():
    assert UNet(channels=3).receptive_radius is None
