"""Exports a generator, and the encoder if there is one, as ONNX; checked in onnxruntime against the model."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from i2i_jax import build, optional, sampling
from i2i_jax.config import sides
from i2i_jax.inference.model import Model
from i2i_jax.interop import model_card, onnx_graph, onnx_networks
from i2i_jax.interop.export import ExportError
from i2i_jax.models import LabelMapGenerator
from i2i_jax.models.layers import Dropout
from i2i_jax.storage import files
from i2i_jax.train_state import TrainState

TOLERANCES = {"float32": 1e-4, "float16": 2e-2}  # largest difference allowed, as a share of the largest number
LARGEST = 2**31  # bytes of an ONNX file

Arrays = dict[str, np.ndarray]


class Artifact(NamedTuple):
    """An ONNX file to be.

    Attributes:
        graph: the `onnx.ModelProto`.
        difference: the largest difference between its numbers and the model's, divided by the largest of the model's.
    """

    graph: Any
    difference: float


def to_onnx(model: Model, out: Path, *, dtype: str = "float32") -> dict[Path, float]:
    """Writes the generator to `out`, the encoder to `encoder_file(out)`, and before them a card to OUT.json.

    If the model has no encoder, `encoder_file(out)` is removed.

    Args:
        model: the model to export.
        out: the file to write.
        dtype: of kernels and features: float32 or float16. Inputs and outputs are float32 in both.

    Returns:
        For each file the largest difference between its numbers and those of the model computed in float32, divided by the largest
        of the model's.

    Raises:
        ExportError: if this exceeds `TOLERANCES[dtype]`, or a file would exceed `LARGEST`; nothing is written then.
        MissingExtra: if onnx or onnxruntime is not installed.
    """
    runtime = optional.library("onnxruntime", "onnx")
    _refuse_large_files(model, out, dtype)
    live = _in_float32(model)
    artifacts = {out: generator(live, dtype)}
    if "encoder" in model.state.params:
        artifacts[encoder_file(out)] = encoder(live, dtype)
    for path, artifact in artifacts.items():
        if not artifact.difference <= TOLERANCES[dtype]:
            reason = f"its numbers differ by {artifact.difference:.2g} of the largest from the model's, more than {TOLERANCES[dtype]}"
            raise ExportError(f"{path}: not written: {reason}")
    main, *others = (_described(path, artifact) for path, artifact in artifacts.items())
    card = model_card.card(model.config, model.networks, model.state) | main | {"encoder": next(iter(others), None)}
    card |= {"layout": "NCHW", "dtype": dtype, "opset": onnx_graph.OPSET, "onnxruntime": runtime.__version__}
    files.atomic_write(out.with_name(f"{out.name}.json"), (json.dumps(card, indent=2) + "\n").encode())
    if encoder_file(out) not in artifacts:
        encoder_file(out).unlink(missing_ok=True)  # that of a model exported to `out` before
    for path, artifact in artifacts.items():
        files.atomic_write(path, artifact.graph.SerializeToString())
    return {path: artifact.difference for path, artifact in artifacts.items()}


def encoder_file(out: Path) -> Path:
    """model.encoder.onnx beside model.onnx."""
    return out.with_name(f"{out.stem}.encoder{out.suffix}")


def generator(model: Model, dtype: str) -> Artifact:
    """The generator, compared for two random images that are not square."""
    network, config = model.networks.generator, model.config
    variables, latent_dim = _variables(model.state, "generator"), model.networks.latent_dim
    graph = onnx_networks.generator(
        network, variables, build.mode(config), channels=config.data.input_channels, latent_dim=latent_dim, dtype=dtype
    )
    images = _images(model, config.data.input_channels)
    z = np.random.default_rng(1).normal(size=(len(images), latent_dim)).astype(np.float32)
    translations, masks = _translate(model, images, z)
    outputs = run(graph, {"image": nchw(images), **({"z": z} if latent_dim else {}), **masks})
    expected = {"translation": translations}
    if isinstance(network, LabelMapGenerator):  # a label may differ where two scores are equal but for rounding
        colours = np.asarray(network.colours, np.float32)
        expected = {"scores": translations, "translation": nchw(colours[outputs["scores"].argmax(1)])}
    return Artifact(graph, _difference(outputs, expected))


def encoder(model: Model, dtype: str) -> Artifact:
    """The encoder, compared for two random images that are not square."""
    mode, channels = build.mode(model.config), model.config.data.target_channels
    graph = onnx_networks.encoder(model.networks.encoder, _variables(model.state, "encoder"), mode, channels=channels, dtype=dtype)
    images = _images(model, channels)
    posterior = sampling.encode(model.networks, model.state, jnp.asarray(images), mode=mode)
    return Artifact(graph, _difference(run(graph, {"image": nchw(images)}), jax.tree.map(np.asarray, posterior._asdict())))


def run(graph: Any, inputs: Arrays) -> Arrays:
    """The outputs of an `onnx.ModelProto` by name, computed by onnxruntime on the CPU."""
    runtime = optional.library("onnxruntime", "onnx")
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


def _refuse_large_files(model: Model, out: Path, dtype: str) -> None:
    count = max(sum(leaf.size for leaf in jax.tree.leaves(params)) for params in model.state.params.values())
    if (size := count * np.dtype(dtype).itemsize) > LARGEST:
        advice = "; --dtype=float16 halves it" if dtype == "float32" else ""
        raise ExportError(
            f"{out}: not written: it would have {size / 1e9:.1f} GB, and ONNX files have at most {LARGEST / 1e9:.1f} GB{advice}"
        )


def _in_float32(model: Model) -> Model:
    """The model with networks that compute in float32 whatever `model.dtype` is."""
    networks: Any = model.networks
    paints_labels = isinstance(model.networks.generator, LabelMapGenerator)
    computation: dict[str, Any] = {"scores": networks.generator.scores.clone(dtype=None)} if paints_labels else {"dtype": None}
    generator, encoder = networks.generator.clone(**computation), networks.encoder.clone(dtype=None)
    return dataclasses.replace(model, networks=networks.clone(generator=generator, encoder=encoder))


def _variables(state: TrainState, network: str) -> dict[str, Any]:
    return {"params": state.params[network], "batch_stats": state.batch_stats.get(network, {})}


def _images(model: Model, channels: int) -> np.ndarray:
    """Two random images of about the size of the crops."""
    size_multiple = model.networks.generator.size_multiple
    side = min(sides(model.config.data.crop_size))
    side += -side % size_multiple
    return np.random.default_rng(0).uniform(-1, 1, (2, side, side + size_multiple, channels)).astype(np.float32)


def _translate(model: Model, images: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """The model's translations, or a segmenter's scores, and its dropout masks, all [batch, channels, height, width]."""
    networks: Any = model.networks
    state, mode = model.state, build.mode(model.config)
    if isinstance(networks.generator, LabelMapGenerator):
        scores = {name: tree.get("scores", {}) for name, tree in _variables(state, "generator").items()}
        networks = networks.clone(generator=networks.generator.scores)
        state = dataclasses.replace(state, params={"generator": scores["params"]}, batch_stats={"generator": scores["batch_stats"]})

    def translate_row(state: TrainState, image: Array, latent: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        masks = {}

        def record_mask(call: Any, args: Any, switches: Any, context: Any) -> Any:
            if not (mode.dropout and isinstance(context.module, Dropout)):
                return call(*args, **switches)
            mask = call(jnp.ones_like(args[0]), **switches)
            masks[str(context.module.name).lower()] = mask[0]
            return args[0] * mask

        with nn.intercept_methods(record_mask):
            return sampling.generate(networks, state, image, latent, key, mode=mode), masks

    keys = jax.random.split(jax.random.key(0), len(images))
    translations, masks = jax.jit(jax.vmap(translate_row, (None, 0, 0, 0)))(state, images, z, keys)
    return nchw(translations), {name: nchw(mask) for name, mask in masks.items()}


def nchw(images: Any) -> np.ndarray:
    return np.asarray(images).transpose(0, 3, 1, 2)


def _difference(outputs: Arrays, expected: Arrays) -> float:
    """The largest difference of any output, as a share of its largest expected number."""
    return max(float(np.abs(outputs[name] - values).max() / np.abs(values).max()) for name, values in expected.items())


def _described(path: Path, artifact: Artifact) -> dict[str, Any]:
    """What the card says of a file: its inputs and outputs by name, and its difference."""
    graph = artifact.graph.graph
    listed = {kind: {value.name: _type(value) for value in values} for kind, values in (("inputs", graph.input), ("outputs", graph.output))}
    return {"file": path.name, **listed, "difference": artifact.difference}


def _type(value: Any) -> str:
    dimensions = (dimension.dim_param or str(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)
    return f"float32[{', '.join(dimensions)}]"
