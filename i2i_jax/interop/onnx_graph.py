"""The layers of `models.layers` as nodes of an ONNX graph. Images and features are [batch, channels, height, width]."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from i2i_jax import optional
from i2i_jax.models.layers import box_kernel
from i2i_jax.models.norms import EPSILON
from i2i_jax.sampling import Mode

OPSET, IR_VERSION = 17, 8  # of 2022, so that runtimes and converters that are not the newest read the files


class Value(NamedTuple):
    """Features [batch, channels, height, width] in the graph: the name of the node's output, and the channels."""

    name: str
    channels: int


class Graph:
    """An ONNX graph to which layers with a network's parameters are added.

    Inputs and outputs are float32. With dtype float16, kernels and features are float16; the statistics of norms, the tanh of
    generators, and the mean over space and the linear heads of encoders stay float32, as in the networks.

    Attributes:
        network: the module whose layers are added.
        params: its parameters.
        batch_stats: the running statistics of its norms.
        mode: how it behaves.
        dtype: float32 or float16.
    """

    def __init__(self, network: Any, variables: dict[str, Any], mode: Mode, dtype: str):
        self.network, self.mode, self.dtype = network, mode, np.dtype(dtype)
        self.params, self.batch_stats = variables["params"], variables["batch_stats"]
        self._onnx = optional.library("onnx", "onnx")
        self._nodes, self._constants, self._inputs, self._outputs = [], [], [], []

    def input(self, name: str, *dimensions: int | str) -> Value:
        """A float32 input [batch, ...]; a dimension that is a string is free, and shown by this string."""
        self._inputs.append(self._float32(name, "batch", *dimensions))
        return self._cast(Value(name, int(dimensions[0])), self.dtype)

    def image(self, channels: int, *, size_multiple: int) -> Value:
        return self.input("image", channels, side("height", size_multiple), side("width", size_multiple))

    def output(self, x: Value, name: str, *dimensions: int | str) -> None:
        """Makes x, which is float32, the output [batch, ...] of this name."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [x.name], [name], name=name))
        self._outputs.append(self._float32(name, "batch", *dimensions))

    def to_model(self) -> Any:
        """The checked `onnx.ModelProto`."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, type(self.network).__name__, self._inputs, self._outputs, self._constants)
        model = helper.make_model(graph, producer_name="i2i_jax", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        self._onnx.checker.check_model(model)
        return model

    def conv(self, x: Value, name: str, *, stride: int = 1, padding: int = 0) -> Value:
        return self._convolve(x, self.params[name], stride, padding)

    def upsample(self, x: Value, name: str) -> Value:
        """The network's upsampling layer: TransposedConv, NearestConv or BilinearConv."""
        if self.network.upsample == "bilinear":
            scales = self.constant(np.array([1, 1, 2, 2], np.float32))
            doubled = self._node("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
            return self._convolve(self.reflect_pad(doubled, 1), self.params[name]["conv"], 1, 0)
        layer = {key: np.asarray(value) for key, value in self.params[name].items()}
        if self.network.upsample == "nearest":
            layer["kernel"] = np.asarray(box_kernel(jnp.asarray(layer["kernel"])))
        size, _, _, features = layer["kernel"].shape
        weights = self._weights(layer["kernel"][::-1, ::-1].transpose(2, 3, 0, 1), layer)
        options = {"kernel_shape": [size, size], "strides": [2, 2], "pads": [1] * 4, "output_padding": [4 - size] * 2}
        return self._node("ConvTranspose", x, *weights, channels=features, **options)

    def normalize(self, x: Value, name: str) -> Value:
        """The network's norm. By the statistics of a single image, batch norm is instance norm with a scale and a bias."""
        if self.network.norm == "none":
            return x
        scale, bias = np.ones(x.channels), np.zeros(x.channels)
        if self.network.norm == "batch":
            scale, bias = (self.params[name]["batch_norm"][key] for key in ("scale", "bias"))
        affine = [self._float32_constant(scale), self._float32_constant(bias)]
        wide = self._cast(x, np.float32)
        if self.network.norm == "batch" and self.mode.running_average:
            statistics = [self._float32_constant(self.batch_stats[name]["batch_norm"][key]) for key in ("mean", "var")]
            wide = self._node("BatchNormalization", wide, *affine, *statistics, epsilon=EPSILON)
        else:
            wide = self._node("InstanceNormalization", wide, *affine, epsilon=EPSILON)
        return self._cast(wide, self.dtype)

    def dropout(self, x: Value, *, downscale: int) -> Value:
        """Multiplies x, whose sides are those of the image divided by `downscale`, by an input of the names dropout_0, dropout_1, ..."""
        if not self.mode.dropout:
            return x
        index = sum(value.name.startswith("dropout") for value in self._inputs)
        sides = (side(name, self.network.size_multiple, downscale) for name in ("height", "width"))
        return self._node("Mul", x, self.input(f"dropout_{index}", x.channels, *sides).name)

    def with_latent(self, x: Value, latent: Value) -> Value:
        """x, and the latent [batch, d] repeated at each of its pixels as d more channels."""
        column = self._node("Unsqueeze", latent, self.constant(np.array([2, 3])))
        size = self._node("Concat", Value(self.constant(np.array([1, 1])), 0), self._node("Shape", x, start=2).name, axis=0)
        return self.concat(x, self._node("Expand", column, size.name))

    def concat(self, x: Value, y: Value) -> Value:
        return self._node("Concat", x, y.name, channels=x.channels + y.channels, axis=1)

    def relu(self, x: Value) -> Value:
        return self._node("Relu", x)

    def leaky_relu(self, x: Value) -> Value:
        return self._node("LeakyRelu", x, alpha=0.2)

    def add(self, x: Value, y: Value) -> Value:
        return self._node("Add", x, y.name)

    def tanh(self, x: Value) -> Value:
        return self._node("Tanh", self._cast(x, np.float32))

    def reflect_pad(self, x: Value, n: int) -> Value:
        return self._node("Pad", x, self.constant(np.array([0, 0, n, n] * 2)), mode="reflect")

    def average_pool(self, x: Value) -> Value:
        return self._node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])

    def mean(self, x: Value) -> Value:
        """The mean over space, float32[batch, channels]."""
        return self._node("Flatten", self._node("GlobalAveragePool", self._cast(x, np.float32)))

    def dense(self, x: Value, name: str) -> Value:
        """A linear layer in float32."""
        weights = [self._float32_constant(self.params[name][key]) for key in ("kernel", "bias")]
        return self._node("Gemm", x, *weights, channels=self.params[name]["bias"].shape[0])

    def colour_of_largest(self, scores: Value, colours: tuple) -> Value:
        """The colour of each pixel's class with the highest score."""
        classes = self._node("ArgMax", scores, axis=1, keepdims=0)
        coloured = self._node("Gather", Value(self._float32_constant(colours), 3), classes.name, axis=0)
        return self._node("Transpose", coloured, perm=[0, 3, 1, 2])

    def constant(self, array: np.ndarray) -> str:
        """Adds an array to the file and returns its name."""
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"constant_{len(self._constants)}"))
        return self._constants[-1].name

    def _float32_constant(self, array: Any) -> str:
        return self.constant(np.asarray(array, np.float32))

    def _convolve(self, x: Value, layer: dict[str, Any], stride: int, padding: int) -> Value:
        kernel = np.asarray(layer["kernel"])
        options = {"kernel_shape": list(kernel.shape[:2]), "strides": [stride] * 2, "pads": [padding] * 4}
        return self._node("Conv", x, *self._weights(kernel.transpose(3, 2, 0, 1), layer), channels=kernel.shape[3], **options)

    def _weights(self, kernel: np.ndarray, layer: dict[str, Any]) -> list[str]:
        """The names of a layer's kernel, in ONNX's layout, and of its bias if it has one."""
        return [self.constant(np.asarray(array, self.dtype)) for array in (kernel, layer.get("bias")) if array is not None]

    def _node(self, op: str, x: Value, *others: str, channels: int | None = None, **attributes: Any) -> Value:
        """Adds a node; its output has the channels of x unless others are given."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(op, [x.name, *others], [name], name=name, **attributes))
        return Value(name, x.channels if channels is None else channels)

    def _cast(self, x: Value, dtype: Any) -> Value:
        if self.dtype == np.float32:
            return x
        return self._node("Cast", x, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _float32(self, name: str, *dimensions: int | str) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, dimensions)


def side(name: str, multiple: int, downscale: int = 1) -> str:
    """How a free side is shown: 64*height is one that must be a multiple of 64."""
    return name if multiple == downscale else f"{multiple // downscale}*{name}"
