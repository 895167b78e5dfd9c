"""Evaluation: figures do not depend on batches and devices, and are correct for examples with known results."""

import dataclasses
import functools
import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter

import tiny
from i2i_jax import build, config, sampling
from i2i_jax.config import METRICS, PERCEPTUAL, ConfigError, EvalConfig
from i2i_jax.data import augment, palettes, shapes
from i2i_jax.data.pairs import Pair
from i2i_jax.devices import parallel
from i2i_jax.evaluation import build_metrics, evaluate
from i2i_jax.evaluation.evaluate import EvalBatch
from i2i_jax.metrics import EvalExamples, lpips
from i2i_jax.metrics.weights import WeightsError
from i2i_jax.sampling import Mode
from i2i_jax.train_state import TrainState
from i2i_jax.types import Gaussian

CAFFE = "squeezenet_caffe"


class Noise:
    """Five pairs."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int, /) -> Pair:
        random = np.random.default_rng(index)
        return Pair(*(random.integers(0, 256, (tiny.SIDE, tiny.SIDE, 3), np.uint8) for _ in range(2)))

    def name(self, index: int, /) -> str:
        return str(index)


@pytest.fixture(scope="module")
def system():
    """Has an encoder, z and dropout: everything that is random in a translation."""
    options = tiny.config_of("bicycle_gan")
    options.model.dropout = True
    game = tiny.game_of(options)
    return game.networks, tiny.state_of(game, tiny.batch_of(2))


def translations(system, places, *, devices=1, batch_size=5, dropout=True, **options) -> list[EvalBatch]:
    networks, state = system
    mesh = parallel.make_mesh(jax.devices()[:devices])
    options = {"size": tiny.SIDE, "samples": 2, "batch_size": batch_size, "mesh": mesh} | options
    return list(evaluate.translations(networks, Mode(dropout=dropout), Noise(), **options)(state, places))


def joined(batches: list[EvalBatch]) -> EvalExamples:
    """All examples without the padding."""
    counts = [batch.count for batch in batches]
    return jax.tree.map(
        lambda *x: np.concatenate([a[:count] for a, count in zip(x, counts, strict=True)]), *(batch.examples for batch in batches)
    )


@pytest.fixture(scope="module")
def examples(system) -> EvalExamples:
    return joined(translations(system, range(5)))


def metrics(*names, **options):
    return build_metrics.metrics(EvalConfig(**options), names)


@functools.cache
def small_metrics():
    return metrics("l1", "psnr", "ssim", "l1_encoded", "latent")


def measured(examples: EvalExamples, *names, **options) -> dict:
    count = len(next(x for x in examples if x is not None))
    return evaluate.evaluate([EvalBatch(examples, count)], metrics(*names, **options)).figures


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (2, 2), (8, 5)])
def test_batches_and_devices_do_not_matter(system, examples, devices, batch_size):
    batches = translations(system, range(5), devices=devices, batch_size=batch_size)
    rows = max(batch_size, devices)
    assert [batch.count for batch in batches] == [min(rows, 5 - start) for start in range(0, 5, rows)]
    assert all(len(batch.examples.target) == rows for batch in batches)
    np.testing.assert_array_equal(joined(batches).z, examples.z)
    result = evaluate.evaluate(batches, small_metrics())
    expected = evaluate.evaluate([EvalBatch(examples, 5)], small_metrics())
    assert (
        result.figures.keys() == expected.figures.keys() == result.standard_errors().keys() | {"active_dimensions", "kl", "kl_by_dimension"}
    )
    for name, value in expected.figures.items():
        np.testing.assert_allclose(result.figures[name], value, rtol=1e-5, err_msg=name)
    for name, values in expected.by_example.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(result.by_example[name], values, rtol=1e-4, err_msg=name)
        assert result.standard_errors()[name] == pytest.approx(np.std(values, ddof=1) / 5**0.5, rel=1e-3)


def test_padding_is_not_measured(examples):
    def broken(x):
        return np.concatenate([x, np.full_like(x, np.nan)])

    filled = evaluate.evaluate([EvalBatch(jax.tree.map(broken, examples), 5)], small_metrics())
    for name, value in evaluate.evaluate([EvalBatch(examples, 5)], small_metrics()).figures.items():
        np.testing.assert_allclose(filled.figures[name], value, rtol=1e-5, err_msg=name)


def test_an_example_depends_on_its_index_alone(system, examples):
    result = joined(translations(system, [3, 1], batch_size=1))
    for name in ("input", "target", "samples", "encoded", "z", "recovered"):
        np.testing.assert_allclose(getattr(result, name), getattr(examples, name)[[3, 1]], rtol=1e-4, atol=1e-5, err_msg=name)
    assert not np.allclose(examples.samples[:, 0], examples.samples[:, 1])


def test_seed_and_sync(system, examples):
    other = joined(translations(system, range(5), seed=1))
    assert not np.allclose(other.samples, examples.samples)
    np.testing.assert_array_equal(other.target, examples.target)
    np.testing.assert_allclose(other.posterior.mean, examples.posterior.mean, rtol=1e-5)
    synced = joined(translations(system, range(5), sync=True))
    np.testing.assert_array_equal(synced.z, np.broadcast_to(examples.z[:1], examples.z.shape))
    assert len(np.unique(examples.z)) == examples.z.size


def test_examples_equal_sampling_at_8_bits(system):
    networks, state = system
    result = joined(translations(system, [2], batch_size=1, dropout=False))
    inputs, targets = (augment.scale(image)[None] for image in Noise()[2])
    encode = jax.jit(lambda images: sampling.encode(networks, state, images))
    translate = jax.jit(lambda z: sampling.translate(networks, state, inputs, z, jax.random.key(0)))
    posterior = encode(targets)
    for latents, images in ((result.z, result.samples), (posterior.mean[:, None], result.encoded[:, None])):
        expected = augment.to_uint8(translate(jnp.broadcast_to(latents, result.z.shape)))[:, : images.shape[1]]
        np.testing.assert_allclose((images + 1) * 127.5, expected, atol=1e-3)
    np.testing.assert_allclose(result.recovered[0, :1], encode(jnp.asarray(result.samples[0, :1])).mean, atol=1e-2)
    np.testing.assert_allclose(result.posterior.log_var, posterior.log_var, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("running_average", [False, True])
def test_the_encoder_normalises_as_the_mode_says(running_average):
    game = tiny.game_of(tiny.config_of("bicycle_gan", norm="batch"))
    networks, state = game.networks, tiny.state_of(game, tiny.batch_of(2))
    options = {"size": tiny.SIDE, "samples": 2, "batch_size": 1, "mesh": parallel.make_mesh(jax.devices()[:1])}
    result = joined(list(evaluate.translations(networks, Mode(running_average=running_average), Noise(), **options)(state, [2])))
    variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats["encoder"]}

    def encode(image):
        image = jnp.asarray(image)
        return networks.encoder.apply(variables, image, use_running_average=running_average, mutable=["batch_stats"])[0]

    np.testing.assert_allclose(result.posterior.mean, encode(augment.scale(Noise()[2].target)[None]).mean, rtol=1e-4, atol=1e-5)
    for recovered, sample in zip(result.recovered[0], result.samples[0], strict=True):
        np.testing.assert_allclose(recovered, encode(sample[None]).mean[0], atol=1e-2)  # the package encodes unrounded samples


def test_equal_samples_are_translated_once():
    options = tiny.config_of("pix2pix")
    options.model.dropout = True
    game = tiny.game_of(options)
    system = game.networks, tiny.state_of(game, tiny.batch_of(2))
    for dropout, count in ((True, 2), (False, 1)):
        result = joined(translations(system, [0], dropout=dropout, batch_size=1))
        assert result.samples.shape == (1, count, tiny.SIDE, tiny.SIDE, 3)
        assert result.encoded is result.posterior is result.recovered is None


def test_every_metric_can_be_built():
    assert set(build_metrics._METRICS) == set(METRICS)
    assert set(PERCEPTUAL) == set(lpips.DISTANCES)


def test_distortion_is_the_mean_over_samples_and_examples():
    target = jnp.zeros((2, 8, 8, 3))
    off = jnp.asarray([[0.2, 0.6], [0.2, 0.2]])  # on [-1, 1]: 0.1, 0.3; 0.1, 0.1
    examples = EvalExamples(target=target, samples=jnp.broadcast_to(off[..., None, None, None], (2, 2, 8, 8, 3)))
    result = measured(examples, "l1", "psnr", "ssim")
    assert result["l1"] == pytest.approx(0.15)
    assert result["psnr"] == pytest.approx((20 - 20 * np.log10(0.3) + 20 + 20) / 4, rel=1e-6)
    assert result["ssim"] < 1
    same = measured(examples._replace(samples=jnp.zeros((2, 2, 8, 8, 3))), "l1", "psnr", "ssim")
    assert same == {"l1": 0, "psnr": np.inf, "ssim": pytest.approx(1)}


def test_an_infinite_mean_has_no_standard_error():
    examples = EvalExamples(target=jnp.zeros((2, 8, 8, 3)), samples=jnp.zeros((2, 1, 8, 8, 3)).at[1].set(0.2))
    result = evaluate.evaluate([EvalBatch(examples, 2)], metrics("l1", "psnr"))
    assert result.standard_errors() == {"l1": pytest.approx(0.05, rel=1e-5)}


def test_modes_of_known_examples():
    outline, material = shapes.example("test", 0)
    answers = jnp.stack([augment.scale(shapes.render(shapes.coverage(outline), m)) for m in range(6)])
    image, target = augment.scale(np.stack([outline] * 3, -1)), answers[material]
    perfect, collapsed = (EvalExamples(image[None], target[None], samples[None]) for samples in (answers, jnp.stack([target] * 6)))
    assert measured(perfect, "modes") == {"modes": 6, "valid": 1, "total_variation": pytest.approx(0)}
    assert measured(collapsed, "modes") == {"modes": 1, "valid": 1, "total_variation": pytest.approx(5 / 6)}
    both = evaluate.evaluate([EvalBatch(perfect, 1), EvalBatch(collapsed, 1)], metrics("modes", "l1"))
    assert both.figures["modes"] == 3.5
    np.testing.assert_array_equal(both.by_example["modes"], [6, 1])


def test_latents_of_known_examples():
    z = jnp.zeros((4, 2, 3))
    mean = jnp.asarray([[0, 1, 0.0], [0, -1, 0.01], [0, 1, 0], [0, -1, 0]])  # one of the three dimensions is active
    examples = EvalExamples(z=z, recovered=z.at[..., 0].add(0.3), posterior=Gaussian(mean, jnp.zeros((4, 3))))
    result = measured(examples, "latent")
    assert result["kl_by_dimension"] == pytest.approx([0, 0.5, 1e-4 / 8], rel=1e-3)
    assert result["kl"] == pytest.approx(0.5 + 1e-4 / 8)
    assert (result["latent_consistency"], result["active_dimensions"]) == (pytest.approx(0.1), 1)
    assert "active_dimensions" not in measured(jax.tree.map(lambda x: x[:1], examples), "latent")


@pytest.fixture(scope="module")
def photos(shared):
    """Examples whose samples are the target, then blurred more and more."""
    file = shared / "weights" / "squeezenet1_1_caffe.npz"
    files = sorted((shared / "data" / "facades" / "test").glob("*.jpg"))[:4]
    if not file.exists() or not files:
        pytest.skip(f"no {file.name} or no photos in {shared}")
    originals = [Image.open(file).convert("RGB").crop((64, 64, 112, 112)) for file in files]

    def blurred(radius: float) -> EvalExamples:
        images = [photo.filter(ImageFilter.GaussianBlur(radius)) if radius else photo for photo in originals]
        return EvalExamples(target=scaled(originals), samples=jnp.stack([scaled(images)] * 2, 1))

    return [blurred(radius) for radius in (0, 1, 4)]


def scaled(images: list) -> jax.Array:
    return augment.scale(np.stack([np.asarray(image) for image in images]))


def test_perceptual_distances_of_photos(photos, shared):
    """One set of metrics for all examples, so that they are compiled once."""
    chosen = metrics(CAFFE, f"diversity_{CAFFE}", f"frechet_{CAFFE}", f"kernel_{CAFFE}", pretrained_dir=str(shared / "weights"))
    file = shared / "weights" / "squeezenet1_1_caffe.npz"
    for metric in chosen.values():
        assert metric.weights == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    results = [evaluate.evaluate([EvalBatch(examples, 4)], chosen) for examples in photos]
    same, *_, worst = (result.figures for result in results)
    assert same[CAFFE] == same[f"diversity_{CAFFE}"] == worst[f"diversity_{CAFFE}"] == 0
    for name in (CAFFE, f"frechet_{CAFFE}", f"kernel_{CAFFE}"):
        assert same[name] < results[1].figures[name] < worst[name]
    assert same[f"frechet_{CAFFE}"] < 0.01 * worst[f"frechet_{CAFFE}"]  # not 0: covariances are unbiased, and one set is twice as large
    assert worst[f"kernel_{CAFFE}_low"] < worst[f"kernel_{CAFFE}"] < worst[f"kernel_{CAFFE}_high"]
    assert "4 images" in results[0].notes[0] and "covariance is singular" in results[0].notes[0]

    unlike = photos[0]._replace(samples=jnp.concatenate([photos[0].samples[:, :1], photos[2].samples[:, :1]], 1))
    assert evaluate.evaluate([EvalBatch(unlike, 4)], chosen).figures[f"diversity_{CAFFE}"] == pytest.approx(worst[CAFFE], rel=1e-5)


def test_two_sets_need_no_pairs(photos, shared):
    """Targets and samples in separate batches give the same figures as in pairs; the distance of equal sets is 0."""
    chosen = metrics(f"frechet_{CAFFE}", f"kernel_{CAFFE}", pretrained_dir=str(shared / "weights"))
    same, alone = (examples._replace(samples=examples.samples[:, :1]) for examples in (photos[0], photos[2]))
    apart = [EvalBatch(EvalExamples(samples=alone.samples), 4), EvalBatch(EvalExamples(target=alone.target), 4)]
    expected = evaluate.evaluate([EvalBatch(alone, 4)], chosen).figures
    result = evaluate.evaluate([EvalBatch(same, 4)], chosen).figures[f"frechet_{CAFFE}"]
    assert result == pytest.approx(0, abs=1e-9 * expected[f"frechet_{CAFFE}"])
    for name, value in evaluate.evaluate(apart, chosen).figures.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_missing_and_wrong_weights(tmp_path):
    with pytest.raises(WeightsError, match="no squeezenet1_1_caffe.npz in this folder"):
        metrics(CAFFE, pretrained_dir=str(tmp_path))
    np.savez(tmp_path / "squeezenet1_1_caffe.npz", x=np.zeros(3))
    with pytest.raises(WeightsError, match="not the weights of this network"):
        metrics(f"kernel_{CAFFE}", pretrained_dir=str(tmp_path))


class Same(nn.Module):
    """A generator that returns its input."""

    size_multiple = 1

    def __call__(self, image, *, use_running_average: bool, deterministic: bool):
        return image


@pytest.fixture
def perfect_segmenter(monkeypatch):
    """For images of 4x4 pixels that are label maps themselves."""
    options = tiny.config_of("segmenter")
    game = build.game(options)
    options.data.crop_size = 4
    game = dataclasses.replace(game, networks=game.networks.clone(generator=Same()))
    state = TrainState(jnp.int32(7), {"generator": {}}, {}, {})
    monkeypatch.setattr(build, "read_config", lambda run: options)
    monkeypatch.setattr(build, "load", lambda run: (game, state))


def test_segmentation_of_known_label_maps(perfect_segmenter):
    """8 of 16 pixels are windows, 8 are doors; a quarter of the window pixels of the two samples is segmented as door."""
    palette = palettes.PALETTES["facades"].classes
    labels = augment.scale(np.array([palette["window"], palette["door"]], np.uint8).repeat(8, 0).reshape(1, 4, 4, 3))
    wrong = labels.at[0, 0].set(labels[0, 3])
    examples = EvalExamples(input=labels, target=labels, samples=jnp.stack([labels, wrong], 1))
    [(name, metric)] = metrics("segmentation", segmenter="runs/segmenter").items()
    assert list(metric.weights) == ["segmenter, step 7"]
    result = evaluate.evaluate([EvalBatch(examples, 1)], {name: metric}).figures
    assert result == {
        "pixel_accuracy": pytest.approx(28 / 32),
        "class_accuracy": pytest.approx((12 / 16 + 1) / 2),
        "iou": pytest.approx((12 / 16 + 16 / 20) / 2),
        "pixel_accuracy_real": 1,
        "class_accuracy_real": 1,
        "iou_real": 1,
    }


@pytest.mark.parametrize("size", [2, 8])
def test_segmentation_at_the_segmenters_size(perfect_segmenter, size):
    """Each quarter of the image has one colour; resizing blends the edges of images, but not of the ground truth."""
    palette = palettes.PALETTES["facades"].classes
    quarters = np.array([[palette["window"], palette["door"]], [palette["shop"], palette["window"]]], np.uint8)
    labels = augment.scale(quarters.repeat(size // 2, 0).repeat(size // 2, 1)[None])
    [metric] = metrics("segmentation", segmenter="runs/segmenter").values()
    measured = metric.measure(EvalExamples(input=labels, target=labels, samples=labels[:, None]))
    np.testing.assert_array_equal(measured["real"], measured["fake"])
    assert measured["real"].shape == (1, 12, 13)
    by_class = dict(zip(palette, np.asarray(measured["real"][0]).sum(1), strict=True))
    assert {name: count for name, count in by_class.items() if count} == {"window": 8, "door": 4, "shop": 4}


def test_runs_that_are_no_segmenter(trained, tmp_path):
    for segmenter, message in (
        ("", r"metric 'segmentation' needs eval.segmenter \(--segmenter\)"),
        (str(tmp_path), "is not a run: it has no config.json"),
        (str(trained("pix2pix")), "one of --config=segmenter is needed"),
    ):
        with pytest.raises(ConfigError, match=message):
            metrics("segmentation", segmenter=segmenter)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("modes", {"data.direction": "BtoA"}, "metric 'modes' can be measured on data.name 'shapes', AtoB, in colour only"),
        ("modes", {"data.name": "facades"}, "metric 'modes' can be measured on data.name 'shapes'"),
        ("latent", {"objective": "pix2pix"}, "metric 'latent': pix2pix has no encoder"),
        ("l1_encoded", {"objective": "pix2pix_noise"}, "metric 'l1_encoded': pix2pix_noise has no encoder"),
        (f"diversity_{CAFFE}", {"eval.samples": 1}, "compares samples of one input: eval.samples must be at least 2"),
        (f"diversity_{CAFFE}", {"objective": "pix2pix"}, "pix2pix without sampling.dropout has one output an input"),
        ("l1,sim", {}, r"unknown metric 'sim': one of l1, .*did you mean 'ssim'"),
        ("l1,", {}, "unknown metric ''"),
        ("psnr", {}, "eval.best_metric is 'l1', which this run does not measure: one of l1, .*psnr|psnr would do"),
    ],
)
def test_metrics_that_do_not_suit_a_run(name, options, message):
    chosen = config.override(config.Config(), options | {"eval.metrics": name})
    with pytest.raises(ConfigError, match=message):
        config.validate(chosen)
