"""Metrics computed from the features of pretrained networks: perceptual distances, diversity, FID, KID, FJD, precision and recall."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from i2i_jax.config import EvalConfig
from i2i_jax.metrics import EvalExamples, Figures, Metric, diversity, frechet, inception, kernel, lpips, precision_recall
from i2i_jax.metrics import weights as weight_files
from i2i_jax.metrics.jackknife import Estimate
from i2i_jax.types import Image

Features = Callable[[Image], Float[Array, "b d"]]
Checksums = Mapping[str, str]  # file name -> SHA-256


def perceptual(figure: str, options: EvalConfig) -> Metric:
    """A perceptual distance between samples and targets, or ("diversity_" and its name) between samples of one input.

    Args:
        figure: one of `config.PERCEPTUAL`, or such a name after "diversity_".
        options: `pretrained_dir` is the folder of the weights.
    """
    name = figure.removeprefix("diversity_")
    measure, checksums = _measured_distances(name, options.pretrained_dir)

    def summarise(measured: Mapping[str, np.ndarray]) -> Figures:
        if figure not in measured:
            raise diversity.DiversityError("diversity needs at least 2 samples an input: found 1")
        return {figure: float(measured[figure].mean())}

    image_size = _distance(name, options.pretrained_dir)[0].extractor.image_size
    return Metric(measure, summarise, weights=checksums, image_size=image_size)


class Network(NamedTuple):
    """A pretrained network of which the last features are compared.

    Attributes:
        load: maps the folder of weights to the features of images, and the SHA-256 of the files read.
        image_size: height and width that images are resized to before, in pixels.
    """

    load: Callable[[str], tuple[Features, Checksums]]
    image_size: int


def frechet_metric(name: str, network: Network, options: EvalConfig) -> Metric:
    """The Fréchet distance of all samples and targets; FID with `INCEPTION`."""
    return _set_metric(network, options, functools.partial(_frechet, name))


def kernel_metric(name: str, network: Network, options: EvalConfig) -> Metric:
    """The kernel distance of the first sample of each input and the targets; KID with `INCEPTION`."""
    return _set_metric(network, options, functools.partial(_kernel, name))


def joint_metric(name: str, network: Network, options: EvalConfig) -> Metric:
    """The Fréchet distance of all samples and targets, each joined with its input: FJD."""
    return _set_metric(network, options, functools.partial(_joint, name), of=("target", "samples", "input"))


def precision_recall_metric(suffix: str, network: Network, options: EvalConfig) -> Metric:
    """Precision and recall of the first sample of each input; `suffix` ends the names of both figures."""
    metric = _set_metric(network, options, functools.partial(_precision_recall, suffix))
    return metric._replace(unpaired=False)  # the standard errors need to know which images belong together


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


INCEPTION = Network(_inception, inception.SIDE)
SQUEEZENET = Network(_squeezenet, lpips.CAFFE_SIZE)


@functools.cache
def _measured_features(network: Network, folder: str, fields: tuple[str, ...]):
    """Measures the features of those of the fields of `EvalExamples` that a batch has: [b, d], and [b, n, d] for samples.

    Cached, so that all distances between these features have the same `measure` and share its work.
    """
    features, checksums = network.load(folder)

    def measure(examples: EvalExamples) -> dict[str, Array]:
        images = {field: getattr(examples, field) for field in fields}
        return {
            field: jnp.stack([features(image[:, i]) for i in range(image.shape[1])], 1) if field == "samples" else features(image)
            for field, image in images.items()
            if image is not None
        }

    return measure, checksums


def _set_metric(
    network: Network, options: EvalConfig, summarise: Callable[..., Figures], *, of: tuple[str, ...] = ("target", "samples")
) -> Metric:
    """A metric that compares the features of the set of all samples with those of the set of all targets, and of inputs."""
    measure, checksums = _measured_features(network, options.pretrained_dir, of)
    return Metric(
        measure,
        lambda measured: summarise(*(measured[field] for field in of)),
        needs=of,
        unpaired="input" not in of,
        weights=checksums,
        image_size=network.image_size,
    )


def _frechet(name: str, real: np.ndarray, fake: np.ndarray) -> Figures:
    return {name: frechet.frechet_distance(fake.reshape(-1, fake.shape[-1]), real)}


def _kernel(name: str, real: np.ndarray, fake: np.ndarray) -> Figures:
    """Uses the first sample of each input, because the estimator assumes independent samples."""
    return _with_interval(name, kernel.kernel_distance(fake[:, 0], real))


def _joint(name: str, real: np.ndarray, fake: np.ndarray, inputs: np.ndarray) -> Figures:
    return _with_interval(name, frechet.frechet_joint_distance(fake, real, inputs))


def _precision_recall(suffix: str, real: np.ndarray, fake: np.ndarray) -> Figures:
    shares = precision_recall.precision_recall(fake[:, 0], real)
    return _with_interval(f"precision{suffix}", shares.precision) | _with_interval(f"recall{suffix}", shares.recall)


def _with_interval(name: str, estimate: Estimate) -> Figures:
    """The estimate with its 95 % interval."""
    low, high = estimate.interval
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def _checksums(files: tuple[str, ...], folder: str) -> dict[str, str]:
    return {file: weight_files.sha256(weight_files.locate(file, folder)) for file in files}
