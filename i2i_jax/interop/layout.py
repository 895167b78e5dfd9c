"""Maps each layer of our networks to its key in the state dicts of the two public PyTorch projects, pix2pix and BicycleGAN."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn

from i2i_jax.models import ConvEncoder, MultiScale, PatchGAN, PixelGAN, ResNet, ResNetEncoder, UNet


class StateDictError(ValueError):
    """A state dict does not hold this network; the message names the key."""


class Layer(NamedTuple):
    """A layer with parameters.

    Attributes:
        path: path of its parameters in our parameter tree.
        key: prefix of its keys in PyTorch's state dict.
        kind: "conv", "transposed", "dense" or "norm".
        normed: whether a norm follows, which cancels the layer's bias. A norm with parameters is the next layer.
    """

    path: tuple[str, ...]
    key: str
    kind: str = "conv"
    normed: bool = False


def has_cancelled_biases(module: nn.Module) -> bool:
    """Whether the PyTorch network has biases before norms, which have no effect.

    All networks with instance norm have them; with batch norm BicycleGAN's networks have them and pix2pix's do not.
    """
    if isinstance(module, MultiScale):
        return len(module.scales) > 1 or any(map(has_cancelled_biases, module.scales))
    if isinstance(module, UNet):
        return module.norm == "instance" or module.skip_order == "decoder_first"
    return module.norm == "instance" or isinstance(module, ConvEncoder | ResNetEncoder)


def layers(module: nn.Module) -> Iterator[Layer]:
    """Yields the layers with parameters, in order; a norm comes right after its convolution.

    Raises:
        StateDictError: if neither project has a network of this class.
    """
    for kind, table in _TABLES.items():
        if isinstance(module, kind):
            return table(module)
    raise StateDictError(f"no PyTorch layout is known for {type(module).__name__}")


def _unet(module: UNet) -> Iterator[Layer]:
    if module.upsample not in ("transposed", "bilinear"):
        raise StateDictError(f"no PyTorch layout is known for a U-Net with {module.upsample} upsampling")
    nested = module.latent_at == "all" and module.skip_order == "decoder_first"
    levels = _nested_levels(module) if nested else _sequential_levels(module)
    for level, (down, down_norm, up, up_norm) in enumerate(levels):
        yield Layer((f"down_{level}",), down, normed=0 < level < module.depth - 1 and module.norm != "none")
        if module.norm == "batch" and 0 < level < module.depth - 1:
            yield Layer((f"down_norm_{level}", "batch_norm"), down_norm, "norm")
        transposed = module.upsample == "transposed"
        path = (f"up_{level}",) if transposed else (f"up_{level}", "conv")
        yield Layer(path, up, "transposed" if transposed else "conv", normed=level > 0 and module.norm != "none")
        if module.norm == "batch" and level:
            yield Layer((f"up_norm_{level}", "batch_norm"), up_norm, "norm")


def _sequential_levels(module: UNet) -> Iterator[tuple[str, str, str, str]]:
    """Keys of pix2pix's U-Net, and of BicycleGAN's with z at the input: nested nn.Sequentials."""
    # Without norm, pix2pix has an identity layer instead.
    norm = int(module.norm != "none" or module.skip_order == "encoder_first")
    prefix, resize = "model.model", 0 if module.upsample == "transposed" else 2
    for level in range(module.depth):
        outermost, innermost = level == 0, level == module.depth - 1
        down = 0 if outermost else 1
        up = (3 if outermost or innermost else 4 + norm) + resize
        yield f"{prefix}.{down}", f"{prefix}.{down + 1}", f"{prefix}.{up}", f"{prefix}.{up + 1}"
        prefix += ".1.model" if outermost else f".{2 + norm}.model"


def _nested_levels(module: UNet) -> Iterator[tuple[str, str, str, str]]:
    """Keys of BicycleGAN's U-Net with z at all layers: nested modules `down`, `submodule` and `up`."""
    prefix, up = "model", 1 if module.upsample == "transposed" else 3
    for level in range(module.depth):
        down = 0 if level == 0 else 1
        yield f"{prefix}.down.{down}", f"{prefix}.down.{down + 1}", f"{prefix}.up.{up}", f"{prefix}.up.{up + 1}"
        prefix += ".submodule"


def _resnet(module: ResNet) -> Iterator[Layer]:
    second = 6 if module.dropout else 5

    def normed(path: str, key: str, index: int, kind: str = "conv") -> Iterator[Layer]:
        yield Layer((path,), f"{key}{index}", kind, normed=module.norm != "none")
        if module.norm == "batch":
            yield Layer((f"{path}_norm", "batch_norm"), f"{key}{index + 1}", "norm")

    if module.upsample != "transposed":
        raise StateDictError(f"no PyTorch layout is known for a ResNet with {module.upsample} upsampling")
    for path, index in (("first", 1), ("down_1", 4), ("down_2", 7)):
        yield from normed(path, "model.", index)
    for i in range(module.blocks):
        yield from normed(f"block_{i}_a", f"model.{10 + i}.conv_block.", 1)
        yield from normed(f"block_{i}_b", f"model.{10 + i}.conv_block.", second)
    end = 10 + module.blocks
    yield from normed("up_2", "model.", end, "transposed")
    yield from normed("up_1", "model.", end + 3, "transposed")
    yield Layer(("last",), f"model.{end + 7}")


def _patchgan(module: Any, prefix: str = "model", path: tuple[str, ...] = ()) -> Iterator[Layer]:
    yield Layer((*path, "conv_0"), f"{prefix}.0")
    for i in range(1, module.layers + 1):
        index = 3 * i - 1
        yield Layer((*path, f"conv_{i}"), f"{prefix}.{index}", normed=module.norm != "none")
        if module.norm == "batch":
            yield Layer((*path, f"norm_{i}", "batch_norm"), f"{prefix}.{index + 1}", "norm")
    yield Layer((*path, "logits"), f"{prefix}.{3 * module.layers + 2}")


def _pixel(module: PixelGAN, prefix: str = "net", path: tuple[str, ...] = ()) -> Iterator[Layer]:
    yield Layer((*path, "conv_0"), f"{prefix}.0")
    yield Layer((*path, "conv_1"), f"{prefix}.2", normed=module.norm != "none")
    if module.norm == "batch":
        yield Layer((*path, "norm_1", "batch_norm"), f"{prefix}.3", "norm")
    yield Layer((*path, "logits"), f"{prefix}.5")


def _multi_scale(module: MultiScale) -> Iterator[Layer]:
    for i, scale in enumerate(module.scales):
        path = (f"scales_{i}",)
        if isinstance(scale, PixelGAN):
            yield from _pixel(scale, "net" if len(module.scales) == 1 else f"net_{i}", path)
        else:
            yield from _patchgan(scale, "model" if len(module.scales) == 1 else f"model_{i}", path)


def _resnet_encoder(module: ResNetEncoder) -> Iterator[Layer]:
    norm = int(module.norm != "none")
    yield Layer(("first",), "conv.0")
    for i in range(module.blocks):
        prefix = f"conv.{i + 1}"
        if module.norm == "batch":
            yield Layer((f"block_{i}_norm_a", "batch_norm"), f"{prefix}.conv.0", "norm")
        yield Layer((f"block_{i}_a",), f"{prefix}.conv.{1 + norm}", normed=bool(norm))
        if module.norm == "batch":
            yield Layer((f"block_{i}_norm_b", "batch_norm"), f"{prefix}.conv.3", "norm")
        yield Layer((f"block_{i}_b",), f"{prefix}.conv.{3 + 2 * norm}.0")
        yield Layer((f"block_{i}_shortcut",), f"{prefix}.shortcut.1")
    yield from _heads()


def _conv_encoder(module: ConvEncoder) -> Iterator[Layer]:
    step = 3 if module.norm != "none" else 2
    yield Layer(("conv_0",), "conv.0")
    for i in range(1, module.layers):
        index = 2 + step * (i - 1)
        yield Layer((f"conv_{i}",), f"conv.{index}", normed=module.norm != "none")
        if module.norm == "batch":
            yield Layer((f"norm_{i}", "batch_norm"), f"conv.{index + 1}", "norm")
    yield from _heads()


def _heads() -> Iterator[Layer]:
    yield Layer(("mean",), "fc.0", "dense")
    yield Layer(("log_var",), "fcVar.0", "dense")


_TABLES = {
    UNet: _unet,
    ResNet: _resnet,
    MultiScale: _multi_scale,
    PatchGAN: _patchgan,
    PixelGAN: _pixel,
    ResNetEncoder: _resnet_encoder,
    ConvEncoder: _conv_encoder,
}


def refuse_foreign(module: nn.Module, *, latent_dim: int) -> None:
    """Raises StateDictError if neither project can build this network, although its parameters could be written."""
    if isinstance(module, UNet):
        if not module.skip:
            raise StateDictError("neither project has a U-Net without skips")
        if module.skip_order == "encoder_first" and (module.upsample != "transposed" or (latent_dim and module.latent_at == "all")):
            raise StateDictError("neither project has a U-Net with skip_order encoder_first and bilinear upsampling or z at all layers")
    scales = module.scales if isinstance(module, MultiScale) and len(module.scales) > 1 else ()
    if any(isinstance(scale, PixelGAN) or scale.norm == "none" for scale in scales):
        raise StateDictError("neither project has multi-scale discriminators that are pixel discriminators or have no norm")
