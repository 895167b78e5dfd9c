"""Evaluates a generator, or images from elsewhere, on pairs: makes the translations and computes the metrics."""

import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from i2i_jax import models, sampling
from i2i_jax.data import augment, crops, images, loader
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.labels import Labels
from i2i_jax.data.outputs import Output, Read, pixels, read, real
from i2i_jax.data.pairs import Pair, Pairs
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.devices import parallel
from i2i_jax.metrics import EvalExamples, Figures, Metric
from i2i_jax.train_state import TrainState
from i2i_jax.types import Batch, Gaussian

BATCH_PIXELS = 2**22  # a batch of pairs that are not resized to squares has at most so many pixels, unless one pair has more


class EvalBatch(NamedTuple):
    """A batch of examples. The first `count` are measured; the rest is padding, so that all batches have one shape."""

    examples: EvalExamples
    count: int


class Evaluation(NamedTuple):
    """The results of an evaluation.

    Attributes:
        figures: the value of each metric over all examples.
        by_example: for figures that are a mean over examples, the value of each example, [n].
        notes: warnings that the metrics raised, for instance about too few images.
    """

    figures: Figures
    by_example: dict[str, np.ndarray]
    notes: list[str]

    def standard_errors(self) -> dict[str, float]:
        """The standard error of each figure that is a mean over examples; figures with NaN or Inf are left out."""
        return {name: float(x.std(ddof=1) / np.sqrt(len(x))) for name, x in self.by_example.items() if len(x) > 1 and np.isfinite(x).all()}


class _RawBatch(NamedTuple):
    """Pairs to translate.

    Attributes:
        raw: the pairs, the last of them padding.
        indices: the index of each.
        count: how many are not padding.
        picture: height and width of the images without the padding around them; None if they have none.
    """

    raw: loader.RawBatch
    indices: np.ndarray
    count: int
    picture: tuple[int, int] | None


class _Inputs(NamedTuple):
    pair: Batch
    z: Float[Array, "b n d"]
    index: Int[Array, " b"]


def translations(
    networks: models.Networks,
    mode: sampling.Mode,
    pairs: Pairs,
    *,
    size: int | tuple[int, int],
    samples: int,
    batch_size: int,
    seed: int = 0,
    sync: bool = False,
    mesh: Mesh | None = None,
    input_labels: Labels | None = None,
    training_size: TrainingSize | None = None,
) -> Callable[[TrainState, Iterable[int]], Iterator[EvalBatch]]:
    """Builds a function that translates pairs with the networks of a state.

    The result for a pair depends only on the state, `seed` and the pair's index, not on the batch that it is in, up to rounding.

    Args:
        networks: the networks; with an encoder the examples also have `encoded`, `posterior` and `recovered`.
        mode: how the generator runs at inference (dropout, batch statistics).
        pairs: the pairs to translate.
        size: pixels of a side of the square that pairs are resized to, or height and width.
        samples: translations of each input; only one if they cannot differ (see `distinct`).
        batch_size: inputs translated at a time; rounded up to a multiple of the number of devices.
        seed: seed of the latents and of dropout.
        sync: give all inputs the same latents.
        mesh: devices; defaults to those of this process.
        input_labels: the classes of the inputs, if they are label maps; the examples' inputs are then in the classes' colours.
        training_size: of a run that keeps the proportions of its pairs (`data.resize`): pairs are resized as in training, not to `size`,
            and translated as a whole; batches have pairs of one size.

    Returns:
        A function `(state, indices) -> batches` that yields the examples for `pairs[index]`, in the order of `indices`.
    """
    mesh = mesh or parallel.make_mesh(jax.local_devices())
    batch_size += -batch_size % mesh.size
    samples = distinct(networks, mode, samples)
    key = jax.random.key(seed)

    @functools.cache
    def translator(picture: tuple[int, int] | None) -> Callable[[TrainState, _Inputs], EvalExamples]:
        def translate_batch(state: TrainState, inputs: _Inputs) -> EvalExamples:
            return jax.vmap(lambda example: _translate(networks, mode, state, example, key, picture))(inputs)

        return parallel.shard_batch(translate_batch, mesh)

    def read_batches(indices: np.ndarray) -> Iterator[_RawBatch]:
        if training_size and training_size.resize != "square":
            yield from _at_training_size(
                pairs, indices, training_size, batch_size, multiple=mesh.size, input_is_labels=input_labels is not None
            )
            return
        for start in range(0, len(indices), batch_size):
            chosen = indices[start : start + batch_size]
            padded = np.resize(chosen, batch_size)
            raw = loader.fixed(pairs, [int(index) for index in padded], size=size, input_is_labels=input_labels is not None)
            yield _RawBatch(raw, padded, len(chosen), None)

    def run(state: TrainState, indices: Iterable[int]) -> Iterator[EvalBatch]:
        state = jax.device_put(parallel.local(TrainState(state.step, state.params, state.batch_stats, {})), parallel.replicated(mesh))
        indices = np.asarray(list(indices))
        for raw, padded, count, picture in read_batches(indices):
            z = sampling.latents_of(key, jnp.asarray(padded * (not sync)), samples, networks.latent_dim)
            inputs = _Inputs(Batch(augment.scale(raw.input), augment.scale(raw.target)), z, jnp.asarray(padded))
            examples = translator(picture)(state, inputs)
            if input_labels:
                painted = augment.scale(input_labels.painted(np.asarray(raw.input)))
                examples = examples._replace(input=painted if picture is None else painted[:, : picture[0], : picture[1]])
            yield EvalBatch(examples, count)

    return run


def _at_training_size(
    pairs: Pairs, indices: np.ndarray, training_size: TrainingSize, batch_size: int, *, multiple: int, input_is_labels: bool
) -> Iterator[_RawBatch]:
    """Batches of consecutive pairs of one size, resized as in training and at least as large as its crops.

    There are at most `batch_size` pairs in a batch, fewer if they are large, and a multiple of `multiple`.
    """

    def read(index: int) -> tuple[int, Pair, tuple[int, int]]:
        pair = crops.central(pairs, index, training_size)
        resized = loader.at_training_size(pair, training_size, input_is_labels=input_is_labels)
        padded = Pair(*(loader.mirrored(image, training_size.crop) for image in resized))
        return index, padded, training_size.scaled(*pair.input.shape[:2])

    def shapes(example: tuple[int, Pair, tuple[int, int]]) -> Any:
        _, pair, picture = example
        return picture, pair.input.shape, pair.target.shape

    for (picture, (height, width, _), _), alike in itertools.groupby((read(int(index)) for index in indices), shapes):
        count = max(multiple, min(batch_size, BATCH_PIXELS // (height * width)) // multiple * multiple)
        while chosen := list(itertools.islice(alike, count)):
            filled = (chosen * count)[:count]
            raw = loader.stacked([pair for _, pair, _ in filled])
            yield _RawBatch(raw, np.array([index for index, _, _ in filled]), len(chosen), picture)


def distinct(networks: models.Networks, mode: sampling.Mode, samples: int) -> int:
    """How many of `samples` translations of one input can differ: all of them, or 1 if there is neither z nor dropout."""
    return samples if networks.latent_dim or mode.dropout else 1


def of_outputs(
    outputs: Sequence[Output], *, direction: str | None, batch_size: int, max_pixels: int = images.MAX_PIXELS, scale: Scale = BY_TYPE
) -> Callable[[Iterable[int]], Iterator[EvalBatch]]:
    """Builds a function that reads outputs of some model, with the real images that they belong to, from their files.

    Args:
        outputs: for each example the real file and the files of its samples.
        direction: if real files are side-by-side pairs: "AtoB" (the target is on the right) or "BtoA".
        batch_size: examples read at a time; rounded up to a multiple of the number of devices.
        max_pixels: refuse larger images.
        scale: how the samples of all images are scaled.

    Returns:
        A function `indices -> batches` that yields the examples for `outputs[index]`, sharded over all devices.
    """
    how = {"direction": direction, "max_pixels": max_pixels, "scale": scale}
    return lambda indices: _batches((read(outputs[index], **how) for index in indices), batch_size)


def of_images(
    reals: Sequence[Path],
    fakes: Sequence[Path],
    *,
    direction: str | None,
    batch_size: int,
    max_pixels: int = images.MAX_PIXELS,
    scale: Scale = BY_TYPE,
) -> Iterator[EvalBatch]:
    """Reads two sets of images that are not paired, for metrics such as FID that compare sets.

    Args:
        reals: real images.
        fakes: generated images.
        direction: as in `of_outputs`.
        batch_size: images read at a time; rounded up to a multiple of the number of devices.
        max_pixels: refuse larger images.
        scale: how the samples of all images are scaled.

    Yields:
        Batches of examples that have only a target, then batches of examples that have only a sample.
    """
    limit: dict[str, Any] = {"max_pixels": max_pixels}
    like = images.size(fakes[0], channels=images.colours(fakes[0], **limit), **limit)
    yield from _batches(
        (Read(None, real(file, direction=direction, like=like, scale=scale, **limit)[1], None) for file in reals), batch_size
    )
    yield from _batches((Read(None, None, pixels(file, scale=scale, **limit)[None]) for file in fakes), batch_size)


def _batches(examples: Iterable[Read], batch_size: int) -> Iterator[EvalBatch]:
    mesh = parallel.make_mesh()
    batch_size += -batch_size % mesh.size
    for group in _grouped(examples, batch_size):
        arrays = (None if x[0] is None else np.resize(np.stack(x), (batch_size, *x[0].shape)) for x in zip(*group, strict=True))
        inputs, targets, samples = (None if x is None else augment.scale(parallel.global_batch(x, mesh)) for x in arrays)
        yield EvalBatch(EvalExamples(inputs, targets, samples), len(group))


def _grouped(examples: Iterable[Read], size: int) -> Iterator[list[Read]]:
    """Groups of at most `size` consecutive examples whose images have the same shape and type."""
    for _, alike in itertools.groupby(examples, key=lambda example: [None if x is None else (x.shape, x.dtype) for x in example]):
        while batch := list(itertools.islice(alike, size)):
            yield batch


def _translate(
    networks: models.Networks, mode: sampling.Mode, state: TrainState, inputs: _Inputs, key: jax.Array, picture: tuple[int, int] | None
) -> EvalExamples:
    """Translates one pair (`inputs` without the batch axis); the images of the result have the size `picture`."""
    rows, columns = (slice(None), slice(None)) if picture is None else map(slice, picture)
    image, target = (x[None] for x in inputs.pair)
    key = jax.random.fold_in(key, inputs.index)
    fakes = sampling.translate(networks, state, image, inputs.z[None], key, mode=mode)
    pair = (image[rows, columns] for image in inputs.pair)
    examples = EvalExamples(*pair, samples=_as_saved(fakes[0, :, rows, columns]), z=inputs.z)
    if "encoder" not in state.params:
        return examples
    posterior = sampling.encode(networks, state, target, mode=mode)
    encoded = sampling.translate(networks, state, image, posterior.mean[None], key, mode=mode)
    return examples._replace(
        encoded=_as_saved(encoded[0, 0, rows, columns]),
        posterior=Gaussian(*(x[0] for x in posterior)),
        recovered=sampling.encode(networks, state, fakes[0], mode=mode).mean,
    )


def _as_saved(images: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rounds images to the 8-bit values that a saved file has."""
    return jnp.round((images + 1) * 127.5) / 127.5 - 1


def evaluate(batches: Iterable[EvalBatch], metrics: Mapping[str, Metric]) -> Evaluation:
    """Computes all metrics over all examples.

    The figures do not depend on how the examples are split into batches and over devices.

    Args:
        batches: the examples; padding is ignored.
        metrics: metrics by name. Metrics with the same `measure` share one call of it for each batch.
    """
    collected: dict[Callable, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for examples, count in batches:
        for measure in dict.fromkeys(metric.measure for metric in metrics.values()):
            for name, values in measure(examples).items():
                collected[measure][name].append(np.asarray(values)[:count])
    measured = {measure: {name: np.concatenate(x) for name, x in by_name.items()} for measure, by_name in collected.items()}
    figures: Figures = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for metric in metrics.values():
            figures |= metric.summarise(measured[metric.measure])
    by_example = {name: x for by_name in measured.values() for name, x in by_name.items() if name in figures and x.ndim == 1}
    return Evaluation(figures, by_example, [str(warning.message) for warning in caught])
