"""Exports full-width generators with random weights as ONNX, and compares their numbers in onnxruntime with the networks'.

python benchmarks/onnx_export.py [--generators=unet_256,resnet_9 --width=64]     (extra `onnx`)
"""

import itertools

import jax
import lists
import numpy as np
import tables
import timing
from absl import flags

from i2i_jax import build, presets
from i2i_jax.commands import app
from i2i_jax.config import OPTIONS, Config, override
from i2i_jax.inference.model import Model
from i2i_jax.interop import export_onnx
from i2i_jax.train_state import TrainState

_GENERATORS = flags.DEFINE_list("generators", ["unet_256", "resnet_9"], "Values of model.generator.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of each generator's first layer.", lower_bound=1)

NORMS = {
    "instance": {"model.norm": "instance"},
    "batch, statistics of the image": {"model.norm": "batch"},
    "batch, running averages": {"model.norm": "batch", "sampling.running_average": True},
}
UPSAMPLES = ("transposed", "bilinear", "nearest")


def model_of(config: Config) -> Model:
    """A model with random parameters with which features keep about the variance of the input."""
    networks, rng = build.networks(config), np.random.default_rng(0)

    def value(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        mean = 1.0 if path[-1].key in ("scale", "var") else 0.0
        spread = 0.1 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        return rng.normal(mean, spread, leaf.shape).astype(np.float32)

    example = build.example_batch(config, 1).input, np.zeros((1, networks.latent_dim), np.float32)
    shapes = jax.eval_shape(networks.generator.init, jax.random.key(0), *example)
    variables = jax.tree_util.tree_map_with_path(value, shapes)
    return Model(config, networks, TrainState(0, {"generator": variables["params"]}, {"generator": variables.get("batch_stats", {})}, {}))


def differences(generator: str, norm: str, upsample: str, width: int) -> dict[str, float]:
    """The largest difference in each dtype, as a share of the largest number."""
    options = {"model.generator": generator, "model.width": width, "model.upsample": upsample, "data.crop_size": 256} | NORMS[norm]
    model = model_of(override(presets.bicycle_family("bicycle_gan", "facades"), options))
    return {dtype: export_onnx.generator(model, dtype).difference for dtype in export_onnx.TOLERANCES}


def main(argv: list[str]) -> None:
    generators = lists.names(_GENERATORS, OPTIONS["model.generator"].choices)
    measured = {job: differences(*job, _WIDTH.value) for job in itertools.product(generators, NORMS, UPSAMPLES)}
    rows = [[*job, *(f"{difference:.1e}" for difference in found.values())] for job, found in measured.items()]
    table = tables.lines(["generator", "norm", "upsampling", *export_onnx.TOLERANCES], rows)
    timing.write("onnx_export", {" / ".join(job): found for job, found in measured.items()}, table, "onnx", "onnxruntime")


if __name__ == "__main__":
    app.start(main)
