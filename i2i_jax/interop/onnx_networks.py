"""Generators and encoders as ONNX graphs, layer by layer in the order of their modules."""

from typing import Any

from i2i_jax.interop.onnx_graph import Graph, Value, side
from i2i_jax.models import ConvEncoder, LabelMapGenerator, ResNet, ResNetEncoder, UNet
from i2i_jax.models.encoders import with_predicted_std
from i2i_jax.sampling import Mode


def generator(network: Any, variables: dict[str, Any], mode: Mode, *, channels: int, latent_dim: int, dtype: str = "float32") -> Any:
    """The graph of a generator: image and, where it has one, z -> translation, in [-1, 1]; a segmenter's also gives the scores.

    With dropout there are inputs dropout_0, dropout_1, ... of which each element is 0 or 2, with equal probability.

    Args:
        network: the generator's module.
        variables: its params and batch_stats.
        mode: how it behaves.
        channels: channels of the input images.
        latent_dim: dimensions of z; 0: none.
        dtype: float32 or float16.

    Returns:
        The checked `onnx.ModelProto`.

    Raises:
        MissingExtra: if onnx is not installed.
    """
    paints_labels = isinstance(network, LabelMapGenerator)
    translator: Any = network.scores if paints_labels else network
    scoped = {name: tree.get("scores", {}) for name, tree in variables.items()} if paints_labels else variables
    graph = Graph(translator, scoped, mode, dtype)
    image = graph.image(channels, size_multiple=translator.size_multiple)
    latent = graph.input("z", latent_dim) if latent_dim else None
    x = _GENERATORS[type(translator)](graph, translator, image, latent)
    sides = [side(name, translator.size_multiple) for name in ("height", "width")]
    if paints_labels:
        graph.output(graph.colour_of_largest(x, network.colours), "translation", 3, *sides)
    graph.output(x, "scores" if paints_labels else "translation", x.channels, *sides)
    return graph.to_model()


def encoder(network: Any, variables: dict[str, Any], mode: Mode, *, channels: int, dtype: str = "float32") -> Any:
    """The graph of an encoder: image -> mean and log_var of its latent. Arguments, result and errors are those of `generator`."""
    network, params = with_predicted_std(network, variables["params"])
    graph = Graph(network, variables | {"params": params}, mode, dtype)
    x = graph.mean(_ENCODERS[type(network)](graph, network, graph.image(channels, size_multiple=1)))
    for name in ("mean", "log_var"):
        graph.output(graph.dense(x, name), name, network.latent_dim)
    return graph.to_model()


def _unet(graph: Graph, network: UNet, image: Value, latent: Value | None) -> Value:
    x, features = image, []
    for level in range(network.depth):
        if latent is not None and (level == 0 or network.latent_at == "all"):
            x = graph.with_latent(x, latent)
        x = graph.leaky_relu(x) if level else x
        x = graph.conv(x, f"down_{level}", stride=2, padding=1)
        x = graph.normalize(x, f"down_norm_{level}") if 0 < level < network.depth - 1 else x
        features.append(x)
    for level in reversed(range(network.depth)):
        if level < network.depth - 1 and network.skip:
            x = graph.concat(features[level], x) if network.skip_order == "encoder_first" else graph.concat(x, features[level])
        x = graph.upsample(graph.relu(x), f"up_{level}")
        x = graph.normalize(x, f"up_norm_{level}") if level else x
        if network.dropout and 4 <= level < network.depth - 1:
            x = graph.dropout(x, downscale=2**level)
    return graph.tanh(x)


def _resnet(graph: Graph, network: ResNet, image: Value, latent: Value | None) -> Value:
    def normed(x: Value, name: str, **options: int) -> Value:
        return graph.normalize(graph.conv(x, name, **options), f"{name}_norm")

    x = image if latent is None else graph.with_latent(image, latent)
    x = graph.relu(normed(graph.reflect_pad(x, 3), "first"))
    for i in (1, 2):
        x = graph.relu(normed(x, f"down_{i}", stride=2, padding=1))
    for i in range(network.blocks):
        y = graph.relu(normed(graph.reflect_pad(x, 1), f"block_{i}_a"))
        y = graph.dropout(y, downscale=4) if network.dropout else y
        x = graph.add(x, normed(graph.reflect_pad(y, 1), f"block_{i}_b"))
    for i in (2, 1):
        x = graph.relu(graph.normalize(graph.upsample(x, f"up_{i}"), f"up_{i}_norm"))
    return graph.tanh(graph.conv(graph.reflect_pad(x, 3), "last"))


def _resnet_encoder(graph: Graph, network: ResNetEncoder, image: Value) -> Value:
    x = graph.conv(image, "first", stride=2, padding=1)
    for i in range(network.blocks):
        y = graph.conv(graph.leaky_relu(graph.normalize(x, f"block_{i}_norm_a")), f"block_{i}_a", padding=1)
        y = graph.conv(graph.leaky_relu(graph.normalize(y, f"block_{i}_norm_b")), f"block_{i}_b", padding=1)
        x = graph.add(graph.average_pool(y), graph.conv(graph.average_pool(x), f"block_{i}_shortcut"))
    return graph.leaky_relu(x)


def _conv_encoder(graph: Graph, network: ConvEncoder, image: Value) -> Value:
    x = graph.leaky_relu(graph.conv(image, "conv_0", stride=2, padding=1))
    for i in range(1, network.layers):
        x = graph.leaky_relu(graph.normalize(graph.conv(x, f"conv_{i}", stride=2, padding=1), f"norm_{i}"))
    return x


_GENERATORS = {UNet: _unet, ResNet: _resnet}
_ENCODERS = {ResNetEncoder: _resnet_encoder, ConvEncoder: _conv_encoder}
