"""Figures: the same however the cases are dealt to batches and devices, and right where they are known."""

import dataclasses
import functools
import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image, ImageFilter

from i2i_jax import build, config, sampling
from i2i_jax.config import METRICS, PERCEPTUAL, ConfigError, EvalConfig
from i2i_jax.data import augment, palettes, shapes
from i2i_jax.data.pairs import Pair
from i2i_jax.devices import parallel
from i2i_jax.evaluation import build_metrics, evaluate
from i2i_jax.evaluation.evaluate import EvalBatch
from i2i_jax.metrics import EvalExamples
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
    """With an encoder, z and dropout: all that is drawn for a case."""
    options = tiny.config_of("bicycle_gan")
    options.model.dropout = True
    game = tiny.game_of(options)
    return game.networks, tiny.state_of(game, tiny.batch_of(2))


def translations(system, places, *, devices=1, batch_size=5, dropout=True, **options) -> list[EvalBatch]:
    networks, state = system
    mesh = parallel.make_mesh(jax.devices()[:devices])
    options = {"size": tiny.SIDE, "samples": 2, "batch_size": batch_size, "mesh": mesh} | options
    return list(evaluate.translations(networks, Mode(dropout=dropout), Noise(), **options)(state, places))


def joined(parts: list[EvalBatch]) -> EvalExamples:
    """Without the filler."""
    return jax.tree.map(lambda *x: np.concatenate([a[: part.count] for a, part in zip(x, parts, strict=True)]), *(p.cases for p in parts))


@pytest.fixture(scope="module")
def cases(system) -> EvalExamples:
    return joined(translations(system, range(5)))


def metrics(*names, **options):
    return build_metrics.metrics(EvalConfig(**options), names)


@functools.cache
def small_metrics():
    return metrics("l1", "psnr", "ssim", "l1_encoded", "latent")


def measured(cases: EvalExamples, *names, **options) -> dict:
    count = len(next(x for x in cases if x is not None))
    return evaluate.evaluate([EvalBatch(cases, count)], metrics(*names, **options)).figures


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (2, 2), (8, 5)])
def test_batches_and_devices_do_not_matter(system, cases, devices, batch_size):
    parts = translations(system, range(5), devices=devices, batch_size=batch_size)
    rows = max(batch_size, devices)
    assert [part.count for part in parts] == [min(rows, 5 - start) for start in range(0, 5, rows)]
    assert all(len(part.cases.target) == rows for part in parts)
    np.testing.assert_array_equal(joined(parts).z, cases.z)
    found = evaluate.evaluate(parts, small_metrics())
    expected = evaluate.evaluate([EvalBatch(cases, 5)], small_metrics())
    assert (
        found.figures.keys() == expected.figures.keys() == found.standard_errors().keys() | {"active_dimensions", "kl", "kl_by_dimension"}
    )
    for name, value in expected.figures.items():
        np.testing.assert_allclose(found.figures[name], value, rtol=1e-5, err_msg=name)
    for name, values in expected.by_case.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(found.by_case[name], values, rtol=1e-4, err_msg=name)
        assert found.standard_errors()[name] == pytest.approx(np.std(values, ddof=1) / 5**0.5, rel=1e-3)


def test_what_fills_a_batch_is_not_counted(cases):
    def broken(x):
        return np.concatenate([x, np.full_like(x, np.nan)])

    filled = evaluate.evaluate([EvalBatch(jax.tree.map(broken, cases), 5)], small_metrics())
    for name, value in evaluate.evaluate([EvalBatch(cases, 5)], small_metrics()).figures.items():
        np.testing.assert_allclose(filled.figures[name], value, rtol=1e-5, err_msg=name)


def test_a_case_depends_on_its_place_alone(system, cases):
    found = joined(translations(system, [3, 1], batch_size=1))
    for name in ("input", "target", "samples", "encoded", "z", "recovered"):
        np.testing.assert_allclose(getattr(found, name), getattr(cases, name)[[3, 1]], rtol=1e-4, atol=1e-5, err_msg=name)
    assert not np.allclose(cases.samples[:, 0], cases.samples[:, 1])


def test_seed_and_sync(system, cases):
    other = joined(translations(system, range(5), seed=1))
    assert not np.allclose(other.samples, cases.samples)
    np.testing.assert_array_equal(other.target, cases.target)
    np.testing.assert_allclose(other.posterior.mean, cases.posterior.mean, rtol=1e-5)
    synced = joined(translations(system, range(5), sync=True))
    np.testing.assert_array_equal(synced.z, np.broadcast_to(cases.z[:1], cases.z.shape))
    assert len(np.unique(cases.z)) == cases.z.size


def test_cases_are_those_of_sampling_at_8_bits(system):
    networks, state = system
    found = joined(translations(system, [2], batch_size=1, dropout=False))
    inputs, targets = (augment.scale(image)[None] for image in Noise()[2])
    encode = jax.jit(lambda images: sampling.encode(networks, state, images))
    translate = jax.jit(lambda z: sampling.translate(networks, state, inputs, z, jax.random.key(0)))
    posterior = encode(targets)
    for latents, images in ((found.z, found.samples), (posterior.mean[:, None], found.encoded[:, None])):
        expected = augment.to_uint8(translate(jnp.broadcast_to(latents, found.z.shape)))[:, : images.shape[1]]
        np.testing.assert_allclose((images + 1) * 127.5, expected, atol=1e-3)
    np.testing.assert_allclose(found.recovered[0, :1], encode(jnp.asarray(found.samples[0, :1])).mean, atol=1e-2)
    np.testing.assert_allclose(found.posterior.log_var, posterior.log_var, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("running_average", [False, True])
def test_the_encoder_normalises_as_the_mode_says(running_average):
    game = tiny.game_of(tiny.config_of("bicycle_gan", norm="batch"))
    networks, state = game.networks, tiny.state_of(game, tiny.batch_of(2))
    options = {"size": tiny.SIDE, "samples": 2, "batch_size": 1, "mesh": parallel.make_mesh(jax.devices()[:1])}
    found = joined(list(evaluate.translations(networks, Mode(running_average=running_average), Noise(), **options)(state, [2])))
    variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats["encoder"]}

    def encode(image):
        image = jnp.asarray(image)
        return networks.encoder.apply(variables, image, use_running_average=running_average, mutable=["batch_stats"])[0]

    np.testing.assert_allclose(found.posterior.mean, encode(augment.scale(Noise()[2].target)[None]).mean, rtol=1e-4, atol=1e-5)
    for recovered, sample in zip(found.recovered[0], found.samples[0], strict=True):
        np.testing.assert_allclose(recovered, encode(sample[None]).mean[0], atol=1e-2)  # of samples that were not yet rounded


def test_samples_that_would_be_equal_are_made_once():
    options = tiny.config_of("pix2pix")
    options.model.dropout = True
    game = tiny.game_of(options)
    system = game.networks, tiny.state_of(game, tiny.batch_of(2))
    for dropout, count in ((True, 2), (False, 1)):
        found = joined(translations(system, [0], dropout=dropout, batch_size=1))
        assert found.samples.shape == (1, count, tiny.SIDE, tiny.SIDE, 3)
        assert found.encoded is found.posterior is found.recovered is None


def test_every_metric_has_its_figures():
    assert set(build_metrics._METRICS) == set(METRICS)
    assert set(PERCEPTUAL) == set(build_metrics.lpips.DISTANCES)


def test_distortion_is_the_mean_over_samples_and_cases():
    target = jnp.zeros((2, 8, 8, 3))
    off = jnp.asarray([[0.2, 0.6], [0.2, 0.2]])  # on [-1, 1]: 0.1, 0.3; 0.1, 0.1
    cases = EvalExamples(target=target, samples=jnp.broadcast_to(off[..., None, None, None], (2, 2, 8, 8, 3)))
    found = measured(cases, "l1", "psnr", "ssim")
    assert found["l1"] == pytest.approx(0.15)
    assert found["psnr"] == pytest.approx((20 - 20 * np.log10(0.3) + 20 + 20) / 4, rel=1e-6)
    assert found["ssim"] < 1
    same = measured(cases._replace(samples=jnp.zeros((2, 2, 8, 8, 3))), "l1", "psnr", "ssim")
    assert same == {"l1": 0, "psnr": np.inf, "ssim": pytest.approx(1)}


def test_a_mean_that_is_infinite_has_no_standard_error():
    cases = EvalExamples(target=jnp.zeros((2, 8, 8, 3)), samples=jnp.zeros((2, 1, 8, 8, 3)).at[1].set(0.2))
    found = evaluate.evaluate([EvalBatch(cases, 2)], metrics("l1", "psnr"))
    assert found.standard_errors() == {"l1": pytest.approx(0.05, rel=1e-5)}


def test_modes_of_known_cases():
    outline, material = shapes.example("test", 0)
    answers = jnp.stack([augment.scale(shapes.render(shapes.coverage(outline), m)) for m in range(6)])
    image, target = augment.scale(np.stack([outline] * 3, -1)), answers[material]
    perfect, collapsed = (EvalExamples(image[None], target[None], samples[None]) for samples in (answers, jnp.stack([target] * 6)))
    assert measured(perfect, "modes") == {"modes": 6, "valid": 1, "total_variation": pytest.approx(0)}
    assert measured(collapsed, "modes") == {"modes": 1, "valid": 1, "total_variation": pytest.approx(5 / 6)}
    both = evaluate.evaluate([EvalBatch(perfect, 1), EvalBatch(collapsed, 1)], metrics("modes", "l1"))
    assert both.figures["modes"] == 3.5
    np.testing.assert_array_equal(both.by_case["modes"], [6, 1])


def test_latents_of_known_cases():
    z = jnp.zeros((4, 2, 3))
    mean = jnp.asarray([[0, 1, 0.0], [0, -1, 0.01], [0, 1, 0], [0, -1, 0]])  # of the three dimensions one is active
    cases = EvalExamples(z=z, recovered=z.at[..., 0].add(0.3), posterior=Gaussian(mean, jnp.zeros((4, 3))))
    found = measured(cases, "latent")
    assert found["kl_by_dimension"] == pytest.approx([0, 0.5, 1e-4 / 8], rel=1e-3)
    assert found["kl"] == pytest.approx(0.5 + 1e-4 / 8)
    assert (found["latent_consistency"], found["active_dimensions"]) == (pytest.approx(0.1), 1)
    assert "active_dimensions" not in measured(jax.tree.map(lambda x: x[:1], cases), "latent")


@pytest.fixture(scope="module")
def photos(shared):
    """EvalExamples whose samples are the target, then blurred more and more."""
    file = shared / "weights" / "squeezenet1_1_caffe.npz"
    files = sorted((shared / "data" / "facades" / "test").glob("*.jpg"))[:4]
    if not file.exists() or not files:
        pytest.skip(f"no {file.name} or no photos in {shared}")
    found = [Image.open(file).convert("RGB").crop((64, 64, 112, 112)) for file in files]

    def blurred(radius: float) -> EvalExamples:
        images = [photo.filter(ImageFilter.GaussianBlur(radius)) if radius else photo for photo in found]
        return EvalExamples(target=scaled(found), samples=jnp.stack([scaled(images)] * 2, 1))

    return [blurred(radius) for radius in (0, 1, 4)]


def scaled(images: list) -> jax.Array:
    return augment.scale(np.stack([np.asarray(image) for image in images]))


def test_perceptual_distances_of_photos(photos, shared):
    """One set of metrics for all cases: compiled once."""
    chosen = metrics(CAFFE, f"diversity_{CAFFE}", f"frechet_{CAFFE}", f"kernel_{CAFFE}", pretrained_dir=str(shared / "weights"))
    file = shared / "weights" / "squeezenet1_1_caffe.npz"
    for metric in chosen.values():
        assert metric.weights == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    found = [evaluate.evaluate([EvalBatch(cases, 4)], chosen) for cases in photos]
    same, *_, worst = (each.figures for each in found)
    assert same[CAFFE] == same[f"diversity_{CAFFE}"] == worst[f"diversity_{CAFFE}"] == 0
    for name in (CAFFE, f"frechet_{CAFFE}", f"kernel_{CAFFE}"):
        assert same[name] < found[1].figures[name] < worst[name]
    assert same[f"frechet_{CAFFE}"] < 0.01 * worst[f"frechet_{CAFFE}"]  # not 0: the unbiased covariance of a set is not that of its double
    assert worst[f"kernel_{CAFFE}_low"] < worst[f"kernel_{CAFFE}"] < worst[f"kernel_{CAFFE}_high"]
    assert "4 images" in found[0].notes[0] and "covariance is singular" in found[0].notes[0]

    unlike = photos[0]._replace(samples=jnp.concatenate([photos[0].samples[:, :1], photos[2].samples[:, :1]], 1))
    assert evaluate.evaluate([EvalBatch(unlike, 4)], chosen).figures[f"diversity_{CAFFE}"] == pytest.approx(worst[CAFFE], rel=1e-5)


def test_two_sets_need_no_pairs(photos, shared):
    """Targets and samples apart give the figures that they give in cases; equal sets have no distance."""
    chosen = metrics(f"frechet_{CAFFE}", f"kernel_{CAFFE}", pretrained_dir=str(shared / "weights"))
    same, alone = (cases._replace(samples=cases.samples[:, :1]) for cases in (photos[0], photos[2]))
    apart = [EvalBatch(EvalExamples(samples=alone.samples), 4), EvalBatch(EvalExamples(target=alone.target), 4)]
    expected = evaluate.evaluate([EvalBatch(alone, 4)], chosen).figures
    found = evaluate.evaluate([EvalBatch(same, 4)], chosen).figures[f"frechet_{CAFFE}"]
    assert found == pytest.approx(0, abs=1e-9 * expected[f"frechet_{CAFFE}"])
    for name, value in evaluate.evaluate(apart, chosen).figures.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(WeightsError, match="no squeezenet1_1_caffe.npz in this folder"):
        metrics(CAFFE, pretrained_dir=str(tmp_path))
    np.savez(tmp_path / "squeezenet1_1_caffe.npz", x=np.zeros(3))
    with pytest.raises(WeightsError, match="not the weights of this network"):
        metrics(f"kernel_{CAFFE}", pretrained_dir=str(tmp_path))


class Same(nn.Module):
    """A generator that gives back its input."""

    size_multiple = 1

    def __call__(self, image, *, use_running_average: bool, deterministic: bool):
        return image


@pytest.fixture
def perfect_segmenter(monkeypatch):
    """For images of 4 pixels a side that are label maps themselves."""
    options = tiny.config_of("segmenter")
    game = build.game(options)
    options.data.crop_size = 4
    game = dataclasses.replace(game, networks=game.networks.clone(generator=Same()))
    state = TrainState(jnp.int32(7), {"generator": {}}, {}, {})
    monkeypatch.setattr(build, "read_config", lambda run: options)
    monkeypatch.setattr(build, "load", lambda run: (game, state))


def test_segmentation_of_known_label_maps(perfect_segmenter):
    """Of 16 pixels 8 are windows and 8 doors; of the samples' 32 a quarter of the windows is told as doors."""
    palette = palettes.PALETTES["facades"].classes
    labels = augment.scale(np.array([palette["window"], palette["door"]], np.uint8).repeat(8, 0).reshape(1, 4, 4, 3))
    wrong = labels.at[0, 0].set(labels[0, 3])
    cases = EvalExamples(input=labels, target=labels, samples=jnp.stack([labels, wrong], 1))
    [(name, metric)] = metrics("segmentation", segmenter="runs/judge").items()
    assert list(metric.weights) == ["judge, step 7"]
    found = evaluate.evaluate([EvalBatch(cases, 1)], {name: metric}).figures
    assert found == {
        "pixel_accuracy": pytest.approx(28 / 32),
        "class_accuracy": pytest.approx((12 / 16 + 1) / 2),
        "iou": pytest.approx((12 / 16 + 16 / 20) / 2),
        "pixel_accuracy_real": 1,
        "class_accuracy_real": 1,
        "iou_real": 1,
    }


@pytest.mark.parametrize("size", [2, 8])
def test_segmentation_at_the_segmenters_size(perfect_segmenter, size):
    """Of images that are quarters of one colour each, whose edges a resize blends; the truth keeps its classes."""
    palette = palettes.PALETTES["facades"].classes
    quarters = np.array([[palette["window"], palette["door"]], [palette["shop"], palette["window"]]], np.uint8)
    labels = augment.scale(quarters.repeat(size // 2, 0).repeat(size // 2, 1)[None])
    [metric] = metrics("segmentation", segmenter="runs/judge").values()
    measured = metric.measure(EvalExamples(input=labels, target=labels, samples=labels[:, None]))
    np.testing.assert_array_equal(measured["real"], measured["fake"])
    assert measured["real"].shape == (1, 12, 13)
    by_class = dict(zip(palette, np.asarray(measured["real"][0]).sum(1), strict=True))
    assert {name: count for name, count in by_class.items() if count} == {"window": 8, "door": 4, "shop": 4}


def test_segmenters_that_cannot_judge(trained, tmp_path):
    for segmenter, message in (
        ("", r"metric 'segmentation' needs eval.segmenter \(--segmenter\)"),
        (str(tmp_path), "is no run: it has no config.json"),
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
