"""Random crops, flips and rotations: equal for both images of a pair, uniformly distributed, and independent of the device layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.data.augment import augment, scale, to_uint8
from i2i_jax.data.loader import RawBatch

SIZE, CROP, COUNT = 10, 6, 600


@pytest.fixture(scope="module")
def raw():
    """Images whose pixels hold their position: the row in the first channel, the column in the second."""
    positions = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), -1).astype(np.uint8)
    images = np.tile(positions, (COUNT, 1, 1, 1))
    return RawBatch(images, images[..., ::-1].copy(), np.arange(COUNT, dtype=np.int32))


def run(raw, flip=True, seed=0, **options):
    static = ("crop_size", "flip", "flip_vertical", "rotate")
    batch = jax.jit(augment, static_argnames=static)(raw, jax.random.key(seed), crop_size=CROP, flip=flip, **options)
    return jax.tree.map(lambda x: np.rint((np.asarray(x) + 1) * 127.5).astype(int), batch)


def test_input_and_target_are_cut_alike(raw):
    batch = run(raw)
    np.testing.assert_array_equal(batch.input, batch.target[..., ::-1])


def test_a_crop_is_a_contiguous_square_mirrored_or_not(raw):
    batch = run(raw)
    rows, columns = batch.input[..., 0], batch.input[..., 1]
    np.testing.assert_array_equal(np.diff(rows, axis=1), 1)
    steps = np.diff(columns, axis=2)
    assert set(np.unique(steps)) == {-1, 1}
    assert (steps == steps[:, :1, :1]).all()


def test_offsets_are_uniform_and_reach_both_ends(raw):
    batch = run(raw)
    tops, lefts = batch.input[..., 0].min((1, 2)), batch.input[..., 1].min((1, 2))
    for offsets in (tops, lefts):
        counts = np.bincount(offsets)
        expected = COUNT / (SIZE - CROP + 1)
        assert len(counts) == SIZE - CROP + 1
        assert ((counts - expected) ** 2 / expected).sum() < 18.5  # chi-squared, 4 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.13  # three standard errors


def test_half_of_the_pairs_are_mirrored_or_none(raw):
    def share(batch):
        return (batch.input[:, 0, 0, 1] > batch.input[:, 0, 1, 1]).mean()

    assert share(run(raw)) == pytest.approx(0.5, abs=0.062)
    assert share(run(raw, flip=False)) == 0


@pytest.mark.parametrize("options", [{"flip_vertical": True}, {"rotate": True}, {"flip_vertical": True, "rotate": True}])
@pytest.mark.parametrize("flip", [True, False])
def test_flips_and_rotations_are_numpys_of_the_same_crops(raw, flip, options):
    """Each pair is the batch without these options, flipped and rotated by NumPy; every combination is drawn equally often."""
    plain, batch = run(raw, flip), run(raw, flip, **options)
    flips, turns = [1, -1][: 1 + options.get("flip_vertical", False)], range(4 if options.get("rotate") else 1)
    variants = [(step, k) for step in flips for k in turns]

    def matches(before, after):
        return [np.array_equal(np.rot90(before[::step], k), after) for step, k in variants]

    inputs, targets = (np.array([matches(*pair) for pair in zip(x, y, strict=True)]) for x, y in zip(plain, batch, strict=True))
    np.testing.assert_array_equal(inputs.sum(1), 1)
    np.testing.assert_array_equal(inputs, targets)
    expected = COUNT / len(variants)
    assert ((inputs.sum(0) - expected) ** 2 / expected).sum() < 24.4  # chi-squared, at most 7 degrees of freedom, p < 0.001


def test_vertical_flips_and_rotations_are_independent_of_crops_and_flips(raw):
    plain, batch = run(raw), run(raw, flip_vertical=True, rotate=True)
    mirrored = plain.input[:, 0, 0, 1] > plain.input[:, 0, 1, 1]
    draws = np.stack([mirrored, plain.input[..., 0].min((1, 2)), plain.input[..., 1].min((1, 2))])
    changed = np.stack([np.diff(batch.input[:, :2, 0, 0])[:, 0] == 1, batch.input[:, 0, 0, 1] == batch.input[:, 0, 1, 1]])
    assert np.abs(np.corrcoef(draws, changed)[:3, 3:]).max() < 0.15  # more than three standard errors


def test_a_batch_without_new_options_is_that_of_the_first_versions(raw):
    """The crops and flips that 0.1 drew, written out in NumPy from its two keys of each pair."""
    batch = run(raw, seed=3)
    for row in range(20):
        crop_key, flip_key = jax.random.split(jax.random.fold_in(jax.random.key(3), row))
        top, left = np.asarray(jax.random.randint(crop_key, (2,), 0, SIZE - CROP + 1))
        crop = raw.input[row, top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(batch.input[row], crop[:, ::-1] if jax.random.bernoulli(flip_key) else crop)


def test_another_key_draws_otherwise(raw):
    assert (run(raw).input != run(raw, seed=1).input).any()


@pytest.mark.parametrize("options", [{}, {"flip_vertical": True, "rotate": True}])
def test_a_batch_in_parts_is_the_same_batch(raw, options):
    whole = run(raw, **options)
    parts = [run(RawBatch(*(x[rows] for x in raw)), **options) for rows in (slice(300, None), slice(300))]
    np.testing.assert_array_equal(np.concatenate([parts[1].input, parts[0].input]), whole.input)


def test_channels_of_input_and_target_may_differ(raw):
    batch = jax.eval_shape(lambda raw: augment(raw, jax.random.key(0), crop_size=CROP, flip=True), raw._replace(input=raw.input[..., :1]))
    assert (batch.input.shape, batch.target.shape) == ((COUNT, CROP, CROP, 1), (COUNT, CROP, CROP, 2))
    assert batch.input.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scale_maps_black_to_minus_one_and_white_to_one(dtype):
    images = np.array([0, np.iinfo(dtype).max], dtype)
    np.testing.assert_array_equal(scale(images), np.array([-1, 1], np.float32))


def test_to_uint8_undoes_scale():
    images = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(scale(images)), images)


def test_to_uint8_clips():
    np.testing.assert_array_equal(to_uint8(jnp.array([-1.5, 1.5])), [0, 255])
