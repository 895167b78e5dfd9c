"""From the names of metrics to what measures them."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from i2i_jax import build, sampling
from i2i_jax.config import METRICS, PERCEPTUAL, ConfigError, EvalConfig
from i2i_jax.data import augment, palettes, shapes
from i2i_jax.metrics import (
    EvalExamples,
    Figures,
    Metric,
    distortion,
    diversity,
    frechet,
    inception,
    kernel,
    latent,
    lpips,
    modes,
    segmentation,
)
from i2i_jax.metrics import weights as weight_files
from i2i_jax.types import Image

Measured = Mapping[str, np.ndarray]
OfPairs = Callable[[Image, Image], Float[Array, " b"]]


def metrics(options: EvalConfig, names: tuple[str, ...]) -> dict[str, Metric]:
    """By name. Raises WeightsError where pretrained weights cannot be had, ConfigError where the segmenter is no run."""
    return {name: _METRICS[name](options) for name in names}


def _of_samples(name: str, function: OfPairs) -> Metric:
    """Mean over an input's samples of `function(sample, target)`."""
    return Metric(jax.jit(lambda cases: {name: _mean_to_target(function, cases)}))


def _mean_to_target(function: OfPairs, cases: EvalExamples) -> Float[Array, " b"]:
    """One sample of every input at a time, so memory does not grow with their number."""
    return jax.lax.map(lambda images: function(images, cases.target), cases.samples.swapaxes(0, 1)).mean(0)


def _l1_encoded(options: EvalConfig) -> Metric:
    def measure(cases: EvalExamples) -> dict[str, Array]:
        return {"l1_encoded": distortion.l1(cases.encoded, cases.target)}

    return Metric(jax.jit(measure), needs=("target", "encoded"))


def _latent(options: EvalConfig) -> Metric:
    def measure(cases: EvalExamples) -> dict[str, Array]:
        consistency = latent.consistency(cases.recovered, cases.z).mean(1)
        return {"latent_consistency": consistency, "mean": cases.posterior.mean, "kl": latent.kl(cases.posterior)}

    def summarise(measured: Measured) -> Figures:
        by_dimension = measured["kl"].mean(0)
        figures: Figures = {"latent_consistency": float(measured["latent_consistency"].mean())}
        if len(measured["mean"]) > 1:
            figures["active_dimensions"] = float(latent.active_dimensions(jnp.asarray(measured["mean"])))
        return figures | {"kl": float(by_dimension.sum()), "kl_by_dimension": by_dimension.tolist()}

    return Metric(jax.jit(measure), summarise, needs=("z", "recovered", "posterior"))


def _modes(options: EvalConfig) -> Metric:
    def one(image: np.ndarray, samples: np.ndarray) -> tuple[int, float, float]:
        answers, mask = shapes.modes(augment.to_uint8(image))
        found = modes.modes(samples, np.asarray(augment.scale(answers)), mask)
        return found.recovered, found.valid, found.total_variation

    def measure(cases: EvalExamples) -> dict[str, np.ndarray]:
        found = np.array([one(*case) for case in zip(np.asarray(cases.input), np.asarray(cases.samples), strict=True)])
        return dict(zip(METRICS["modes"], found.T, strict=True))

    return Metric(measure, needs=("input", "samples"))


@functools.cache
def _distance(name: str, folder: str) -> tuple[lpips.Distance, Mapping[str, str]]:
    return lpips.DISTANCES[name](folder), _checksums(lpips.files(name), folder)


@functools.cache
def _measured_distances(name: str, folder: str) -> tuple[Callable[[EvalExamples], Mapping[str, Array]], Mapping[str, str]]:
    """Quantities `name`, to the target, and `diversity_name`, between two samples or more; one function for both."""
    distance, checksums = _distance(name, folder)

    @jax.jit
    def measure(distance: lpips.Distance, cases: EvalExamples) -> dict[str, Array]:
        to_target, to_next = diversity.distances(distance, cases.target, cases.samples)
        return {name: to_target.mean(0)} | ({f"diversity_{name}": to_next.mean(0)} if len(to_next) else {})

    return functools.partial(measure, distance), checksums


def _perceptual(figure: str, options: EvalConfig) -> Metric:
    measure, checksums = _measured_distances(figure.removeprefix("diversity_"), options.pretrained_dir)

    def summarise(measured: Measured) -> Figures:
        if figure not in measured:
            raise diversity.DiversityError("diversity needs at least 2 samples an input: found 1")
        return {figure: float(measured[figure].mean())}

    return Metric(measure, summarise, weights=checksums)


Features = Callable[[Image], Float[Array, "b d"]]


def _inception(folder: str) -> tuple[Features, Mapping[str, str]]:
    file = weight_files.locate(inception.FILE, folder)
    params = inception.params_from_state_dict(weight_files.read(file), path=file)
    of_images = jax.jit(inception.features)
    return lambda images: of_images(params, images), _checksums((inception.FILE,), folder)


def _squeezenet(folder: str) -> tuple[Features, Mapping[str, str]]:
    distance, checksums = _distance("squeezenet_caffe", folder)
    of_images = jax.jit(lambda extractor, images: extractor.features(images))
    return lambda images: of_images(distance.extractor, images), checksums


@functools.cache
def _measured_features(network: Callable[[str], tuple[Features, Mapping[str, str]]], folder: str):
    """Quantities `real` [b, d] and `fake` [b, n, d] of what there is of each; one function for all the distances between them."""
    features, checksums = network(folder)

    def measure(cases: EvalExamples) -> dict[str, Array]:
        measured = {} if cases.target is None else {"real": features(cases.target)}
        if cases.samples is not None:
            measured["fake"] = jnp.stack([features(cases.samples[:, i]) for i in range(cases.samples.shape[1])], 1)
        return measured

    return measure, checksums


def _of_sets(name: str, network: Callable, summarise: Callable[[str, np.ndarray, np.ndarray], Figures], options: EvalConfig) -> Metric:
    measure, checksums = _measured_features(network, options.pretrained_dir)
    return Metric(measure, lambda measured: summarise(name, measured["fake"], measured["real"]), unpaired=True, weights=checksums)


def _frechet(name: str, fake: np.ndarray, real: np.ndarray) -> Figures:
    """Of all samples."""
    return {name: frechet.frechet_distance(fake.reshape(-1, fake.shape[-1]), real)}


def _kernel(name: str, fake: np.ndarray, real: np.ndarray) -> Figures:
    """Of the first sample of each input, since its estimate asks for independent samples; with the ends of its 95 % interval."""
    found = kernel.kernel_distance(fake[:, 0], real)
    low, high = found.interval
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def _segmentation(options: EvalConfig) -> Metric:
    """`_real` are the scores of the targets themselves. All is enlarged or reduced to the size that the segmenter was trained at."""
    if not options.segmenter:
        raise ConfigError("metric 'segmentation' needs eval.segmenter (--segmenter), the run that makes label maps from targets")
    run = build.read_config(options.segmenter)
    game, state = build.load(options.segmenter)
    if run.objective != "segmenter":
        raise ConfigError(f"eval.segmenter {options.segmenter}: a run of {run.objective}: one of --config=segmenter is needed")
    palette = palettes.PALETTES[run.data.palette]

    def resized(images: Array, method: str) -> Array:
        return jax.image.resize(images, (len(images), run.data.crop_size, run.data.crop_size, *images.shape[3:]), method)

    @jax.jit
    def measure(state: Any, cases: EvalExamples) -> dict[str, Array]:
        truth = resized(palettes.classes_of(cases.input, palette), "nearest")

        def confusion(images: Image) -> Array:
            shown, without_z = resized(images, "cubic"), jnp.zeros((len(images), 1, 0))
            maps = sampling.translate(game.networks, state, shown, without_z, jax.random.key(0), mode=build.mode(run))[:, 0]
            return segmentation.confusion(palettes.classes_of(maps, palette), truth, classes=len(palette.classes))

        return {"real": confusion(cases.target), "fake": jax.lax.map(confusion, cases.samples.swapaxes(0, 1)).sum(0)}

    def summarise(measured: Measured) -> Figures:
        fake, real = (segmentation.scores(measured[of].astype(np.int64).sum(0))._asdict() for of in ("fake", "real"))
        return fake | {f"{name}_real": value for name, value in real.items()}

    name = f"{Path(options.segmenter).name}, step {int(state.step)}"
    return Metric(functools.partial(measure, state), summarise, ("input", "target", "samples"), weights={name: _checksum_of(state.params)})


def _checksums(files: tuple[str, ...], folder: str) -> dict[str, str]:
    return {file: weight_files.sha256(weight_files.locate(file, folder)) for file in files}


def _checksum_of(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


_METRICS: dict[str, Callable[[EvalConfig], Metric]] = {
    "l1": lambda options: _of_samples("l1", distortion.l1),
    "psnr": lambda options: _of_samples("psnr", distortion.psnr),
    "ssim": lambda options: _of_samples("ssim", distortion.ssim),
    "l1_encoded": _l1_encoded,
    "latent": _latent,
    "modes": _modes,
    **{name: functools.partial(_perceptual, name) for of in PERCEPTUAL for name in (of, f"diversity_{of}")},
    "fid": functools.partial(_of_sets, "fid", _inception, _frechet),
    "kid": functools.partial(_of_sets, "kid", _inception, _kernel),
    "frechet_squeezenet_caffe": functools.partial(_of_sets, "frechet_squeezenet_caffe", _squeezenet, _frechet),
    "kernel_squeezenet_caffe": functools.partial(_of_sets, "kernel_squeezenet_caffe", _squeezenet, _kernel),
    "segmentation": _segmentation,
}
