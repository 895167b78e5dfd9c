"""Inputs made from photos."""

import numpy as np
import pytest

from i2i_jax.data import photos


def scene(side: int = 96) -> np.ndarray:
    """A dark disc on a light background that gets lighter to the right."""
    y, x = np.mgrid[:side, :side]
    light = np.broadcast_to(np.linspace(150, 230, side), (side, side))
    inside = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 4) ** 2
    return np.where(inside[..., None], (200, 40, 30), np.repeat(light[..., None], 3, 2)).astype(np.uint8)


def apply(task: str, photo: np.ndarray, seed: int = 0) -> np.ndarray:
    return photos.TASKS[task](photo, np.random.default_rng(seed))


@pytest.mark.parametrize("task", photos.TASKS)
@pytest.mark.parametrize("shape", [(96, 96), (1, 1), (3, 40)])
def test_every_task_keeps_the_size(task, shape):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    result = apply(task, photo)
    assert result.shape in (shape, (*shape, 3))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, apply(task, photo))


def test_the_command_offers_every_task(command):
    command("pairs", "--help")
    from i2i_jax.commands import pairs

    assert tuple(photos.TASKS) == pairs.TASKS


@pytest.mark.parametrize("task", ["edges", "lines"])
def test_drawings_are_black_at_the_edges_and_white_elsewhere(task):
    drawing = apply(task, scene())
    y, x = np.mgrid[:96, :96]
    from_edge = np.abs(np.hypot(y - 48, x - 48) - 24)
    assert drawing[from_edge > 6].min() == 255
    ring = [drawing[(from_edge < 3) & (np.abs(np.arctan2(y - 48, x - 48) - angle) < 0.4)].min() for angle in (-2, -1, 0, 1, 2)]
    assert max(ring) < 130


def test_a_dark_photo_is_drawn_as_a_light_one():
    light, dark = (apply("lines", (scene() * scale).astype(np.uint8)) for scale in (1, 0.6))
    assert np.mean((light < 200) != (dark < 200)) < 0.02


@pytest.mark.parametrize("task", ["blur", "downscale"])
def test_detail_is_lost_and_the_mean_is_kept(task):
    photo = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    result = apply(task, photo).astype(float)
    assert abs(result.mean() - photo.mean()) < 1
    assert result.std() < photo.std() / 2


def test_a_mask_covers_a_part_that_the_seed_chooses():
    photo = scene()
    masked = [apply("mask", photo, seed) for seed in range(20)]
    covered = [(image != photo).any(2) for image in masked]
    shares = [mask.mean() for mask in covered]
    assert 0.05 < np.mean(shares) < 0.4 and max(shares) < 0.7
    for image, mask in zip(masked, covered, strict=True):
        assert (image[mask] == 255).all()
    assert not np.array_equal(masked[0], masked[1])
