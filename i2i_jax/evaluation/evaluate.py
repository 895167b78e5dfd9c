"""How good a generator is, on pairs it was not trained on."""

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from i2i_jax import models, sampling
from i2i_jax.data import augment, images, loader
from i2i_jax.data.outputs import Output, Read, pixels, read, real
from i2i_jax.data.pairs import Pairs
from i2i_jax.devices import parallel
from i2i_jax.metrics import EvalExamples, Figures, Metric
from i2i_jax.train_state import TrainState
from i2i_jax.types import Batch, Gaussian


class EvalBatch(NamedTuple):
    """A batch of cases, of which the first `count` are to be measured; the rest fill it up."""

    cases: EvalExamples
    count: int


class Evaluation(NamedTuple):
    """`by_case` has the figures that are a mean over cases, case by case; `notes` what is to be known about the others."""

    figures: Figures
    by_case: dict[str, np.ndarray]
    notes: list[str]

    def standard_errors(self) -> dict[str, float]:
        """Of the figures that are a mean over cases, where all are finite."""
        return {name: float(x.std(ddof=1) / np.sqrt(len(x))) for name, x in self.by_case.items() if len(x) > 1 and np.isfinite(x).all()}


class _Inputs(NamedTuple):
    pair: Batch
    z: Float[Array, "b n d"]
    index: Int[Array, " b"]


def translations(
    networks: models.Networks,
    mode: sampling.Mode,
    pairs: Pairs,
    *,
    size: int,
    samples: int,
    batch_size: int,
    seed: int = 0,
    sync: bool = False,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Iterable[int]], Iterator[EvalBatch]]:
    """A function from a state and places in `pairs` to the cases there, `batch_size` at a time on this process's devices.

    What becomes of a pair depends on the state, `seed` and its place alone. `sync` gives all inputs the same latents.
    Of each input `distinct(networks, mode, samples)` translations are made.
    """
    mesh = mesh or parallel.make_mesh(jax.local_devices())
    batch_size += -batch_size % mesh.size
    samples = distinct(networks, mode, samples)
    key = jax.random.key(seed)

    def translated(state: TrainState, inputs: _Inputs) -> EvalExamples:
        return jax.vmap(lambda one: _case(networks, mode, state, one, key))(inputs)

    translate = parallel.shard_batch(translated, mesh)

    def run(state: TrainState, places: Iterable[int]) -> Iterator[EvalBatch]:
        state = jax.device_put(parallel.local(TrainState(state.step, state.params, state.batch_stats, {})), parallel.replicated(mesh))
        places = np.asarray(list(places))
        for start in range(0, len(places), batch_size):
            here = places[start : start + batch_size]
            filled = np.resize(here, batch_size)
            raw = loader.fixed(pairs, [int(place) for place in filled], size=size)
            z = sampling.latents_of(key, jnp.asarray(filled * (not sync)), samples, networks.latent_dim)
            inputs = _Inputs(Batch(augment.scale(raw.input), augment.scale(raw.target)), z, jnp.asarray(filled))
            yield EvalBatch(translate(state, inputs), len(here))

    return run


def distinct(networks: models.Networks, mode: sampling.Mode, samples: int) -> int:
    """How many of `samples` translations of an input can differ: without z and without dropout only one."""
    return samples if networks.latent_dim or mode.dropout else 1


def of_outputs(
    outputs: Sequence[Output], *, direction: str | None, batch_size: int, max_pixels: int = images.MAX_PIXELS
) -> Callable[[Iterable[int]], Iterator[EvalBatch]]:
    """A function from places in `outputs` to the cases there, `batch_size` at a time on all devices, as read from their files."""
    how = {"direction": direction, "max_pixels": max_pixels}
    return lambda places: _batches((read(outputs[place], **how) for place in places), batch_size)


def of_images(
    reals: Sequence[Path], fakes: Sequence[Path], *, direction: str | None, batch_size: int, max_pixels: int = images.MAX_PIXELS
) -> Iterator[EvalBatch]:
    """EvalExamples that have a target, then cases that have a sample: what is compared as two sets needs no pairs."""
    most = {"max_pixels": max_pixels}
    like = images.size(fakes[0], channels=images.colours(fakes[0], **most), **most)
    yield from _batches((Read(None, real(file, direction=direction, like=like, **most)[1], None) for file in reals), batch_size)
    yield from _batches((Read(None, None, pixels(file, **most)[None]) for file in fakes), batch_size)


def _batches(found: Iterable[Read], batch_size: int) -> Iterator[EvalBatch]:
    mesh = parallel.make_mesh()
    batch_size += -batch_size % mesh.size
    for alike in _alike(found, batch_size):
        arrays = (None if x[0] is None else np.resize(np.stack(x), (batch_size, *x[0].shape)) for x in zip(*alike, strict=True))
        inputs, targets, samples = (None if x is None else augment.scale(parallel.global_batch(x, mesh)) for x in arrays)
        yield EvalBatch(EvalExamples(inputs, targets, samples), len(alike))


def _alike(found: Iterable[Read], size: int) -> Iterator[list[Read]]:
    """Batches of at most `size`, each of images of one shape and type."""
    for _, group in itertools.groupby(found, key=lambda one: [None if x is None else (x.shape, x.dtype) for x in one]):
        while batch := list(itertools.islice(group, size)):
            yield batch


def _case(networks: models.Networks, mode: sampling.Mode, state: TrainState, one: _Inputs, key: jax.Array) -> EvalExamples:
    image, target = (x[None] for x in one.pair)
    key = jax.random.fold_in(key, one.index)
    fakes = sampling.translate(networks, state, image, one.z[None], key, mode=mode)
    made = EvalExamples(*one.pair, samples=_eight_bits(fakes[0]), z=one.z)
    if "encoder" not in state.params:
        return made
    posterior = sampling.encode(networks, state, target, mode=mode)
    encoded = sampling.translate(networks, state, image, posterior.mean[None], key, mode=mode)
    return made._replace(
        encoded=_eight_bits(encoded[0, 0]),
        posterior=Gaussian(*(x[0] for x in posterior)),
        recovered=sampling.encode(networks, state, fakes[0], mode=mode).mean,
    )


def _eight_bits(images: Float[Array, "..."]) -> Float[Array, "..."]:
    """As they are once they are saved."""
    return jnp.round((images + 1) * 127.5) / 127.5 - 1


def evaluate(batches: Iterable[EvalBatch], metrics: Mapping[str, Metric]) -> Evaluation:
    """The figures of all `metrics`, over all cases; they do not depend on how the cases are dealt to batches and devices."""
    collected: dict[Callable, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for cases, count in batches:
        for measure in dict.fromkeys(metric.measure for metric in metrics.values()):
            for name, values in measure(cases).items():
                collected[measure][name].append(np.asarray(values)[:count])
    measured = {measure: {name: np.concatenate(x) for name, x in by_name.items()} for measure, by_name in collected.items()}
    figures: Figures = {}
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        for metric in metrics.values():
            figures |= metric.summarise(measured[metric.measure])
    by_case = {name: x for by_name in measured.values() for name, x in by_name.items() if name in figures and x.ndim == 1}
    return Evaluation(figures, by_case, [str(note.message) for note in noted])
