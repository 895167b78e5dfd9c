"""Builds metrics from their names."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from i2i_jax.config import METRICS, PERCEPTUAL, EvalConfig
from i2i_jax.data import augment, shapes
from i2i_jax.evaluation import pretrained_metrics as pretrained
from i2i_jax.evaluation import segmentation_metric
from i2i_jax.metrics import EvalExamples, Figures, Metric, distortion, latent, modes
from i2i_jax.types import Image


def metrics(options: EvalConfig, names: tuple[str, ...]) -> dict[str, Metric]:
    """Builds the named metrics.

    Args:
        options: where the pretrained weights and the segmenter are.
        names: names of metrics, each one of `config.METRICS`.

    Returns:
        The metrics by name, in the order of `names`.

    Raises:
        WeightsError: if pretrained weights are missing, or are not those of the network.
        ConfigError: if the metric "segmentation" is requested and `options.segmenter` is not a segmenter's run.
    """
    return {name: _METRICS[name](options) for name in names}


def _distortion(name: str, distance: Callable[[Image, Image], Float[Array, " b"]]) -> Metric:
    """`distance(sample, target)`, averaged over the samples of each input."""
    return Metric(jax.jit(lambda examples: {name: _mean_over_samples(distance, examples)}))


def _mean_over_samples(distance: Callable[[Image, Image], Float[Array, " b"]], examples: EvalExamples) -> Float[Array, " b"]:
    """Handles one sample of every input at a time, so that memory does not grow with the number of samples."""
    return jax.lax.map(lambda images: distance(images, examples.target), examples.samples.swapaxes(0, 1)).mean(0)


def _l1_encoded(options: EvalConfig) -> Metric:
    def measure(examples: EvalExamples) -> dict[str, Array]:
        return {"l1_encoded": distortion.l1(examples.encoded, examples.target)}

    return Metric(jax.jit(measure), needs=("target", "encoded"))


def _latent(options: EvalConfig) -> Metric:
    def measure(examples: EvalExamples) -> dict[str, Array]:
        consistency = latent.consistency(examples.recovered, examples.z).mean(1)
        return {"latent_consistency": consistency, "mean": examples.posterior.mean, "kl": latent.kl(examples.posterior)}

    def summarise(measured: Mapping[str, np.ndarray]) -> Figures:
        by_dimension = measured["kl"].mean(0)
        figures: Figures = {"latent_consistency": float(measured["latent_consistency"].mean())}
        if len(measured["mean"]) > 1:
            figures["active_dimensions"] = float(latent.active_dimensions(jnp.asarray(measured["mean"])))
        return figures | {"kl": float(by_dimension.sum()), "kl_by_dimension": by_dimension.tolist()}

    return Metric(jax.jit(measure), summarise, needs=("z", "recovered", "posterior"))


def _modes(options: EvalConfig) -> Metric:
    def score(image: np.ndarray, samples: np.ndarray) -> tuple[int, float, float]:
        answers, mask = shapes.modes(augment.to_uint8(image))
        result = modes.modes(samples, np.asarray(augment.scale(answers)), mask)
        return result.recovered, result.valid, result.total_variation

    def measure(examples: EvalExamples) -> dict[str, np.ndarray]:
        pairs = zip(np.asarray(examples.input), np.asarray(examples.samples), strict=True)
        scores = np.array([score(image, samples) for image, samples in pairs])
        return dict(zip(METRICS["modes"], scores.T, strict=True))

    return Metric(measure, needs=("input", "samples"))


_METRICS: dict[str, Callable[[EvalConfig], Metric]] = {
    "l1": lambda options: _distortion("l1", distortion.l1),
    "psnr": lambda options: _distortion("psnr", distortion.psnr),
    "ssim": lambda options: _distortion("ssim", distortion.ssim),
    "l1_encoded": _l1_encoded,
    "latent": _latent,
    "modes": _modes,
    **{figure: functools.partial(pretrained.perceptual, figure) for name in PERCEPTUAL for figure in (name, f"diversity_{name}")},
    "fid": functools.partial(pretrained.frechet_metric, "fid", pretrained.INCEPTION),
    "kid": functools.partial(pretrained.kernel_metric, "kid", pretrained.INCEPTION),
    "fjd": functools.partial(pretrained.joint_metric, "fjd", pretrained.INCEPTION),
    "precision_recall": functools.partial(pretrained.precision_recall_metric, "", pretrained.INCEPTION),
    "frechet_squeezenet_caffe": functools.partial(pretrained.frechet_metric, "frechet_squeezenet_caffe", pretrained.SQUEEZENET),
    "kernel_squeezenet_caffe": functools.partial(pretrained.kernel_metric, "kernel_squeezenet_caffe", pretrained.SQUEEZENET),
    "fjd_squeezenet_caffe": functools.partial(pretrained.joint_metric, "fjd_squeezenet_caffe", pretrained.SQUEEZENET),
    "precision_recall_squeezenet_caffe": functools.partial(pretrained.precision_recall_metric, "_squeezenet_caffe", pretrained.SQUEEZENET),
    "segmentation": segmentation_metric.segmentation_scores,
}
