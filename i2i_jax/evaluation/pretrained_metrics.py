"""Metrics computed from the features of pretrained networks: perceptual distances, diversity, FID and KID."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from i2i_jax.config import EvalConfig
from i2i_jax.metrics import EvalExamples, Figures, Metric, diversity, frechet, inception, kernel, lpips
from i2i_jax.metrics import weights as weight_files
from i2i_jax.types import Image

Features = Callable[[Image], Float[Array, "b d"]]
Checksums = Mapping[str, str]  # file name -> SHA-256


def perceptual(figure: str, options: EvalConfig) -> Metric:
    """A perceptual distance between samples and targets, or ("diversity_" and its name) between samples of one input.

    Args:
        figure: one of `config.PERCEPTUAL`, or such a name after "diversity_".
        options: `pretrained_dir` is the folder of the weights.
    """
    measure, checksums = _measured_distances(figure.removeprefix("diversity_"), options.pretrained_dir)

    def summarise(measured: Mapping[str, np.ndarray]) -> Figures:
        if figure not in measured:
            raise diversity.DiversityError("diversity needs at least 2 samples an input: found 1")
        return {figure: float(measured[figure].mean())}

    return Metric(measure, summarise, weights=checksums)


def inception_frechet(name: str, options: EvalConfig) -> Metric:
    """FID: the Fréchet distance between InceptionV3 features."""
    return _set_metric(name, _inception, _frechet, options)


def inception_kernel(name: str, options: EvalConfig) -> Metric:
    """KID: the kernel distance between InceptionV3 features."""
    return _set_metric(name, _inception, _kernel, options)


def squeezenet_frechet(name: str, options: EvalConfig) -> Metric:
    """The Fréchet distance between SqueezeNet features."""
    return _set_metric(name, _squeezenet, _frechet, options)


def squeezenet_kernel(name: str, options: EvalConfig) -> Metric:
    """The kernel distance between SqueezeNet features."""
    return _set_metric(name, _squeezenet, _kernel, options)


@functools.cache
def _distance(name: str, folder: str) -> tuple[lpips.Distance, Checksums]:
    return lpips.DISTANCES[name](folder), _checksums(lpips.files(name), folder)


@functools.cache
def _measured_distances(name: str, folder: str) -> tuple[Callable[[EvalExamples], Mapping[str, Array]], Checksums]:
    """Measures the distances to the target (`name`) and, if there are several samples, between them (`diversity_name`).

    Cached, so that both metrics have the same `measure` and share its work.
    """
    distance, checksums = _distance(name, folder)

    @jax.jit
    def measure(distance: lpips.Distance, examples: EvalExamples) -> dict[str, Array]:
        to_target, to_next = diversity.distances(distance, examples.target, examples.samples)
        return {name: to_target.mean(0)} | ({f"diversity_{name}": to_next.mean(0)} if len(to_next) else {})

    return functools.partial(measure, distance), checksums


def _inception(folder: str) -> tuple[Features, Checksums]:
    file = weight_files.locate(inception.FILE, folder)
    params = inception.params_from_state_dict(weight_files.read(file), path=file)
    extract = jax.jit(inception.features)
    return lambda images: extract(params, images), _checksums((inception.FILE,), folder)


def _squeezenet(folder: str) -> tuple[Features, Checksums]:
    distance, checksums = _distance("squeezenet_caffe", folder)
    extract = jax.jit(lambda extractor, images: extractor.features(images))
    return lambda images: extract(distance.extractor, images), checksums


@functools.cache
def _measured_features(network: Callable[[str], tuple[Features, Checksums]], folder: str):
    """Measures the features of the targets, `real` [b, d], and of the samples, `fake` [b, n, d], whichever a batch has.

    Cached, so that all distances between these features have the same `measure` and share its work.
    """
    features, checksums = network(folder)

    def measure(examples: EvalExamples) -> dict[str, Array]:
        measured = {} if examples.target is None else {"real": features(examples.target)}
        if examples.samples is not None:
            measured["fake"] = jnp.stack([features(examples.samples[:, i]) for i in range(examples.samples.shape[1])], 1)
        return measured

    return measure, checksums


def _set_metric(name: str, network: Callable, summarise: Callable[[str, np.ndarray, np.ndarray], Figures], options: EvalConfig) -> Metric:
    """A distance between the set of all samples and the set of all targets."""
    measure, checksums = _measured_features(network, options.pretrained_dir)
    return Metric(measure, lambda measured: summarise(name, measured["fake"], measured["real"]), unpaired=True, weights=checksums)


def _frechet(name: str, fake: np.ndarray, real: np.ndarray) -> Figures:
    """Uses all samples of each input."""
    return {name: frechet.frechet_distance(fake.reshape(-1, fake.shape[-1]), real)}


def _kernel(name: str, fake: np.ndarray, real: np.ndarray) -> Figures:
    """Uses the first sample of each input, because the estimator assumes independent samples; adds the 95 % interval."""
    estimate = kernel.kernel_distance(fake[:, 0], real)
    low, high = estimate.interval
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def _checksums(files: tuple[str, ...], folder: str) -> dict[str, str]:
    return {file: weight_files.sha256(weight_files.locate(file, folder)) for file in files}
