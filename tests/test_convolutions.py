"""All implementations of convolutions, against sums over the taps of the kernel in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from i2i_jax.models import cpu_convolutions, tpu_convolutions, xla_convolutions
from i2i_jax.models.convolutions import convolve, convolve_with_constant, transposed_convolve

RNG = np.random.default_rng(0)

# Shape of the image [b, h, w, i], shape of the kernel [k, k, i, o], stride, padding.
CONVOLUTIONS = {
    "stride 2": ((2, 9, 8, 3), (4, 4, 3, 2), 2, 1),
    "few channels": ((2, 8, 6, 3), (4, 4, 3, 2), 2, 1),
    "few channels, the size of the kernel": ((2, 2, 2, 3), (4, 4, 3, 2), 2, 1),
    "stride 1": ((2, 9, 8, 3), (4, 4, 3, 2), 1, 1),
    "kernel of 3": ((2, 9, 8, 3), (3, 3, 3, 2), 2, 1),
    "kernel of 7": ((2, 9, 8, 3), (7, 7, 3, 2), 1, 0),
    "more weights than pixels": ((2, 4, 5, 9), (4, 4, 9, 10), 2, 1),
    "more weights than pixels, kernel of 3": ((1, 2, 3, 9), (3, 3, 9, 10), 1, 1),
    "few features": ((2, 5, 6, 33), (4, 4, 33, 2), 1, 1),
    "few features, kernel of 1": ((2, 5, 6, 4), (1, 1, 4, 3), 1, 0),
}
# Shape of the image, shape of the kernel, output padding.
TRANSPOSED = {
    "kernel of 4": ((1, 5, 4, 3), (4, 4, 3, 2), 0),
    "kernel of 3": ((1, 5, 4, 3), (3, 3, 3, 2), 1),
    "more weights than pixels": ((2, 1, 2, 6), (4, 4, 6, 5), 0),
    "more weights than pixels, kernel of 3": ((1, 2, 2, 6), (3, 3, 6, 5), 1),
}


def arrays(*shapes):
    return [RNG.normal(size=shape) for shape in shapes]


def plain_convolution(x, kernel, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    k = kernel.shape[0]
    steps = range(0, x.shape[1] - k + 1, stride), range(0, x.shape[2] - k + 1, stride)
    return np.stack([np.stack([np.einsum("bhwi,hwio->bo", x[:, r : r + k, c : c + k], kernel) for c in steps[1]], 1) for r in steps[0]], 1)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case):
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS[case]
    x, kernel = arrays(image_shape, kernel_shape)
    ours = convolve(jnp.float32(x), jnp.float32(kernel), stride=stride, padding=padding)
    np.testing.assert_allclose(ours, plain_convolution(x, kernel, stride, padding), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_spreads_each_pixel_by_the_flipped_kernel(case):
    """As in PyTorch, every input pixel adds its value times the kernel around twice its position. Our kernel is stored flipped."""
    image_shape, kernel_shape, output_padding = TRANSPOSED[case]
    x, kernel = arrays(image_shape, kernel_shape)
    (batch, height, width, _), (k, _, _, features) = image_shape, kernel_shape
    canvas = np.zeros((batch, 2 * height + k, 2 * width + k, features))
    for r, c in np.ndindex(height, width):
        canvas[:, 2 * r : 2 * r + k, 2 * c : 2 * c + k] += np.einsum("bi,hwio->bhwo", x[:, r, c], kernel[::-1, ::-1])
    ours = transposed_convolve(jnp.float32(x), jnp.float32(kernel), output_padding)
    np.testing.assert_allclose(ours, canvas[:, 1 : 1 + 2 * height, 1 : 1 + 2 * width], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_gradients(case):
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS[case]
    _check_gradients(partial(convolve, stride=stride, padding=padding), image_shape, kernel_shape)


@pytest.mark.parametrize("case", ["stride 2", "stride 1", "kernel of 3"])
def test_second_gradients_which_a_gradient_penalty_needs(case):
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS[case]
    _check_gradients(partial(convolve, stride=stride, padding=padding), image_shape, kernel_shape, order=2)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_gradients_of_the_transposed_convolution(case):
    image_shape, kernel_shape, output_padding = TRANSPOSED[case]
    _check_gradients(lambda x, kernel: transposed_convolve(x, kernel, output_padding), image_shape, kernel_shape)


def _check_gradients(convolution, *shapes, order=1):
    """Checks gradients against finite differences. Kernels are scaled by their fan-in, so that the sine has a small argument."""
    scale = np.prod(shapes[1][:3]) ** -0.5
    with jax.enable_x64(True):
        run = jax.jit(lambda x, kernel: jnp.sin(convolution(x, scale * kernel)))
        check_grads(run, tuple(map(jnp.asarray, arrays(*shapes))), order=order, modes=["rev"])


def _assert_equal_with_gradients(form, other, *shapes):
    with jax.enable_x64(True):
        arguments = list(map(jnp.asarray, arrays(*shapes)))
        (output, vjp), (expected, expected_vjp) = (jax.vjp(function, *arguments) for function in (form, other))
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)
        for ours, others in zip(*(pull(jnp.cos(expected)) for pull in (vjp, expected_vjp)), strict=True):
            np.testing.assert_allclose(ours, others, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forms", [cpu_convolutions, tpu_convolutions])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_of_all_platforms_and_their_gradients_are_equal(case, forms):
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS[case]
    functions = (partial(module.convolve, stride=stride, padding=padding) for module in (forms, xla_convolutions))
    _assert_equal_with_gradients(*functions, image_shape, kernel_shape)


def test_second_gradients_of_the_convolution_in_blocks():
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS["few channels"]
    _check_gradients(partial(tpu_convolutions.convolve, stride=stride, padding=padding), image_shape, kernel_shape, order=2)


@pytest.mark.parametrize("constants", [1, 5])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_constant_channels_are_those_of_a_tiled_image(case, constants):
    (batch, height, width, channels), (size, _, _, features), stride, padding = CONVOLUTIONS[case]
    shapes = ((batch, height, width, channels), (batch, constants), (size, size, channels + constants, features))
    options = {"stride": stride, "padding": padding}

    def tiled(x, constant, kernel):
        image = jnp.concatenate([x, jnp.tile(constant[:, None, None], (1, height, width, 1))], -1)
        return xla_convolutions.convolve(image, kernel, **options)

    for form in (convolve_with_constant, tpu_convolutions.convolve_with_constant):
        _assert_equal_with_gradients(partial(form, **options), tiled, *shapes)


@pytest.mark.parametrize("form", [cpu_convolutions.transposed_convolve, xla_convolutions.cudnn_transposed_convolve])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions_of_all_platforms_and_their_gradients_are_equal(case, form):
    image_shape, kernel_shape, output_padding = TRANSPOSED[case]
    functions = (partial(function, output_padding=output_padding) for function in (form, xla_convolutions.transposed_convolve))
    _assert_equal_with_gradients(*functions, image_shape, kernel_shape)


@pytest.mark.parametrize("case", ["more weights than pixels", "few features"])
def test_sums_in_bfloat16_are_rounded_once(case):
    image_shape, kernel_shape, stride, padding = CONVOLUTIONS[case]
    x, kernel = (jnp.asarray(array, jnp.bfloat16) for array in arrays(image_shape, kernel_shape))
    exact = convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), stride=stride, padding=padding)
    ours = convolve(x, kernel, stride=stride, padding=padding)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)
