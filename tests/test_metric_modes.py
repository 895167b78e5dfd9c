"""Recovered modes, fraction of valid samples and total variation, for samplers with known results."""

import numpy as np
import pytest

from i2i_jax.data import shapes
from i2i_jax.metrics.modes import modes


@pytest.fixture(scope="module")
def known():
    renderings, mask = shapes.modes(np.stack([shapes.example("test", 0)[0]] * 3, -1))
    return renderings / 127.5 - 1, mask


def test_every_mode_equally_often(known):
    found = modes(np.concatenate([known[0], known[0]]), *known)
    assert (found.recovered, found.valid, found.total_variation) == (6, 1.0, pytest.approx(0))


def test_a_collapsed_sampler(known):
    found = modes(np.stack([known[0][2]] * 5), *known)
    assert (found.recovered, found.valid, found.total_variation) == (1, 1.0, pytest.approx(5 / 6))


def test_grey_samples_are_not_valid(known):
    found = modes(np.zeros((4, 64, 64, 3)), *known)
    assert (found.recovered, found.valid, found.total_variation) == (0, 0.0, 1.0)


def test_a_mixture_by_hand(known):
    renderings, mask = known
    samples = np.concatenate([renderings[[0, 0, 1]] + 0.1, np.zeros((1, 64, 64, 3))])
    found = modes(samples, renderings, mask)
    assert (found.recovered, found.valid) == (2, 0.75)
    assert found.total_variation == pytest.approx((2 / 3 - 1 / 6 + 1 / 3 - 1 / 6 + 4 / 6) / 2)


def test_pixels_outside_the_mask_have_no_effect(known):
    renderings, mask = known
    samples = np.where(mask[None, :, :, None], renderings, -1)
    assert modes(samples, *known) == modes(renderings, *known)


def test_the_average_of_two_neighbouring_modes_is_not_valid(known):
    renderings, mask = known
    pairs = [(a + b) / 2 for i, a in enumerate(renderings) for b in renderings[:i]]
    assert modes(np.stack(pairs), renderings, mask).valid == 0


def test_an_empty_mask_is_an_error(known):
    with pytest.raises(ValueError, match="no closed outline"):
        modes(known[0], known[0], np.zeros((64, 64), bool))
