"""Classes by colour, confusion matrices and FCN scores, against a loop over pixels and on the labels of facades."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import palettes
from i2i_jax.data.palettes import PALETTES, UNLABELLED
from i2i_jax.metrics import segmentation

K = 5


def rendered(labels: np.ndarray, palette: palettes.Palette) -> np.ndarray:
    return np.array(list(palette.classes.values()), np.uint8)[labels]


def scaled(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images, jnp.float32) / 127.5 - 1


def counted(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The confusion matrix of one image, counted pixel by pixel."""
    table = np.zeros((K, K + 1), int)
    for p, t in zip(predicted.ravel(), truth.ravel(), strict=True):
        if t != UNLABELLED:
            table[t, K if p == UNLABELLED else p] += 1
    return table


def published(table: np.ndarray) -> tuple[float, float, float]:
    """Long's definitions on a k x k matrix, with nanmean."""
    table = table.astype(float)
    with np.errstate(invalid="ignore"):
        accuracy = np.diag(table) / table.sum(1)
        iou = np.diag(table) / (table.sum(1) + table.sum(0) - np.diag(table))
    return np.diag(table).sum() / table.sum(), np.nanmean(accuracy), np.nanmean(iou)


@pytest.fixture(scope="module")
def maps():
    """Predicted and true classes of 3 images: class 4 has no true pixels, and some pixels are unlabelled in either."""
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, K - 1, (3, 9, 7))
    return np.where(rng.random(truth.shape) < 0.4, rng.integers(-1, K, truth.shape), truth), truth


@pytest.fixture(scope="module")
def table(maps):
    return np.asarray(jax.jit(segmentation.confusion, static_argnames="classes")(*map(jnp.asarray, maps), classes=K))


@pytest.mark.parametrize(("name", "classes"), [("facades", 12), ("cityscapes", 19)])
def test_palettes_have_their_classes_once(name, classes):
    palette = PALETTES[name]
    colours = [*palette.classes.values(), *palette.unlabelled]
    assert (len(palette.classes), len(set(colours))) == (classes, len(colours))


@pytest.mark.parametrize("name", PALETTES)
def test_every_colour_is_its_class_after_some_noise(name):
    palette = PALETTES[name]
    colours = np.array([*palette.classes.values(), *palette.unlabelled])
    noisy = np.clip(colours + np.random.default_rng(0).uniform(-4, 4, (20, *colours.shape)), 0, 255)
    expected = np.where(np.arange(len(colours)) < len(palette.classes), np.arange(len(colours)), UNLABELLED)
    found = jax.jit(lambda images: palettes.classes_of(images, palette))(scaled(noisy[:, None]))
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (20, 1, len(colours))))


@pytest.mark.parametrize("name", PALETTES)
def test_a_jpeg_keeps_its_classes_away_from_edges(name):
    labels = np.random.default_rng(0).integers(0, len(PALETTES[name].classes), (8, 8))
    file = io.BytesIO()
    Image.fromarray(rendered(labels.repeat(16, 0).repeat(16, 1), PALETTES[name])).save(file, "jpeg", quality=90)
    found = palettes.classes_of(scaled(np.asarray(Image.open(file)))[None], PALETTES[name])
    inner = found.reshape(8, 16, 8, 16)[:, 2:-2, :, 2:-2]
    np.testing.assert_array_equal(inner, np.broadcast_to(labels[:, None, :, None], inner.shape))


def test_grey_label_maps_are_refused():
    with pytest.raises(palettes.PaletteError, match="of 1 channels, 3 would do"):
        palettes.classes_of(jnp.zeros((1, 4, 4, 1)), PALETTES["facades"])


def test_confusion_against_a_loop(maps, table):
    np.testing.assert_array_equal(table, [counted(*both) for both in zip(*maps, strict=True)])


def test_confusion_counts_every_labelled_pixel_once(maps, table):
    np.testing.assert_array_equal(table.sum((1, 2)), (maps[1] != UNLABELLED).sum((1, 2)))


def test_confusion_is_independent_of_the_batch(maps, table):
    one_by_one = [segmentation.confusion(jnp.asarray(p[None]), jnp.asarray(t[None]), classes=K)[0] for p, t in zip(*maps, strict=True)]
    np.testing.assert_array_equal(table, np.stack(one_by_one))


def test_scores_as_published_where_every_prediction_is_a_class(table):
    total = table.sum(0)
    total[:, -1] = 0
    np.testing.assert_allclose(segmentation.scores(total), published(np.delete(total, K, 1)))


def test_scores_by_hand():
    """Class 2 is predicted but never true: it has no accuracy and an IoU of 0. Class 3 is neither: it is ignored in both."""
    total = np.array([[6, 2, 2, 0, 0], [1, 4, 0, 0, 5], [0] * 5, [0] * 5])
    assert segmentation.scores(total) == pytest.approx((10 / 20, (6 / 10 + 4 / 10) / 2, (6 / 11 + 4 / 12 + 0) / 3))


def test_a_prediction_of_no_class_is_wrong():
    truth = jnp.zeros((1, 2, 2), int)
    found = segmentation.confusion(truth.at[0, 0, 0].set(UNLABELLED), truth, classes=K)
    assert segmentation.scores(np.asarray(found).sum(0)) == (0.75, 0.75, 0.75)


def test_all_correct_and_all_wrong(maps):
    truth = jnp.asarray(maps[1])
    perfect = segmentation.confusion(truth, truth, classes=K)
    all_wrong = segmentation.confusion((truth + 1) % K, truth, classes=K)
    assert segmentation.scores(np.asarray(perfect).sum(0)) == (1, 1, 1)
    assert segmentation.scores(np.asarray(all_wrong).sum(0)) == (0, 0, 0)


def test_more_mistakes_are_worse(maps):
    truth, rng = maps[1], np.random.default_rng(1)
    wrong, noise = rng.integers(0, K, truth.shape), rng.random(truth.shape)
    found = []
    for fraction in (0.1, 0.3, 0.6, 0.9):
        predicted = jnp.asarray(np.where(noise < fraction, wrong, truth))
        found.append(segmentation.scores(np.asarray(segmentation.confusion(predicted, jnp.asarray(truth), classes=K)).sum(0)))
    assert (np.diff(found, axis=0) < 0).all()


def test_nothing_labelled_is_refused():
    with pytest.raises(segmentation.SegmentationError, match="no labelled pixel"):
        segmentation.scores(np.zeros((K, K + 1), int))


def test_facades_labels_have_the_palettes_colours(shared):
    """The median colour of each class away from edges is that of the palette, up to JPEG noise; all 12 classes occur."""
    files = sorted((shared / "data" / "facades" / "test").glob("*.jpg"))[:24]
    if not files:
        pytest.skip("no facades in the test data")
    labels = np.stack([np.asarray(Image.open(file).convert("RGB"))[:, 256:] for file in files])
    palette = PALETTES["facades"]
    found = np.asarray(jax.jit(lambda images: palettes.classes_of(images, palette))(scaled(labels)))
    inner = np.ones(found.shape, bool)
    for axis in (1, 2):
        for step in (-3, -2, -1, 1, 2, 3):
            inner &= found == np.roll(found, step, axis)
    for index, colour in enumerate(palette.classes.values()):
        np.testing.assert_allclose(np.median(labels[inner & (found == index)], 0), colour, atol=6)
