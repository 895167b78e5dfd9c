"""Convolutions in all their forms, against sums over the kernel's places."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from i2i_jax.models import cpu_convolutions, xla_convolutions
from i2i_jax.models.convolutions import convolve, transposed_convolve

RNG = np.random.default_rng(0)

# Image [b, h, w, i], kernel [k, k, i, o], stride, padding.
CONVOLUTIONS = {
    "stride 2": ((2, 9, 8, 3), (4, 4, 3, 2), 2, 1),
    "stride 1": ((2, 9, 8, 3), (4, 4, 3, 2), 1, 1),
    "kernel of 3": ((2, 9, 8, 3), (3, 3, 3, 2), 2, 1),
    "kernel of 7": ((2, 9, 8, 3), (7, 7, 3, 2), 1, 0),
    "more weights than pixels": ((2, 4, 5, 9), (4, 4, 9, 10), 2, 1),
    "more weights than pixels, kernel of 3": ((1, 2, 3, 9), (3, 3, 9, 10), 1, 1),
    "few features": ((2, 5, 6, 33), (4, 4, 33, 2), 1, 1),
    "few features, kernel of 1": ((2, 5, 6, 4), (1, 1, 4, 3), 1, 0),
}
# Image, kernel, output padding.
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
    image, of_kernel, stride, padding = CONVOLUTIONS[case]
    x, kernel = arrays(image, of_kernel)
    ours = convolve(jnp.float32(x), jnp.float32(kernel), stride=stride, padding=padding)
    np.testing.assert_allclose(ours, plain_convolution(x, kernel, stride, padding), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_spreads_each_pixel_by_the_flipped_kernel(case):
    """PyTorch's: every input pixel adds its value times the kernel around twice its place. Ours holds the kernel flipped."""
    image, of_kernel, output_padding = TRANSPOSED[case]
    x, kernel = arrays(image, of_kernel)
    (batch, height, width, _), (k, _, _, features) = image, of_kernel
    canvas = np.zeros((batch, 2 * height + k, 2 * width + k, features))
    for r, c in np.ndindex(height, width):
        canvas[:, 2 * r : 2 * r + k, 2 * c : 2 * c + k] += np.einsum("bi,hwio->bhwo", x[:, r, c], kernel[::-1, ::-1])
    ours = transposed_convolve(jnp.float32(x), jnp.float32(kernel), output_padding)
    np.testing.assert_allclose(ours, canvas[:, 1 : 1 + 2 * height, 1 : 1 + 2 * width], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_gradients(case):
    image, of_kernel, stride, padding = CONVOLUTIONS[case]
    _check_gradients(partial(convolve, stride=stride, padding=padding), image, of_kernel)


@pytest.mark.parametrize("case", ["stride 2", "stride 1", "kernel of 3"])
def test_second_gradients_which_a_gradient_penalty_needs(case):
    image, of_kernel, stride, padding = CONVOLUTIONS[case]
    _check_gradients(partial(convolve, stride=stride, padding=padding), image, of_kernel, order=2)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_gradients_of_the_transposed_convolution(case):
    image, of_kernel, output_padding = TRANSPOSED[case]
    _check_gradients(lambda x, kernel: transposed_convolve(x, kernel, output_padding), image, of_kernel)


def _check_gradients(convolution, *shapes, order=1):
    """Finite differences need sums that the sine does not turn round many times: kernels are scaled by their number of inputs."""
    scale = np.prod(shapes[1][:3]) ** -0.5
    with jax.enable_x64(True):
        run = jax.jit(lambda x, kernel: jnp.sin(convolution(x, scale * kernel)))
        check_grads(run, tuple(map(jnp.asarray, arrays(*shapes))), order=order, modes=["rev"])


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_cpus_forms_are_xlas_convolution_and_its_gradients(case):
    image, of_kernel, stride, padding = CONVOLUTIONS[case]
    with jax.enable_x64(True):
        x, kernel = map(jnp.asarray, arrays(image, of_kernel))
        forms = (partial(form.convolve, stride=stride, padding=padding) for form in (cpu_convolutions, xla_convolutions))
        of_cpu, of_xla = (jax.vjp(form, x, kernel) for form in forms)
        np.testing.assert_allclose(of_cpu[0], of_xla[0], rtol=1e-12, atol=1e-12)
        g = jnp.cos(of_xla[0])
        for ours, xlas in zip(of_cpu[1](g), of_xla[1](g), strict=True):
            np.testing.assert_allclose(ours, xlas, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_cpus_forms_are_xlas_transposed_convolution(case):
    image, of_kernel, output_padding = TRANSPOSED[case]
    with jax.enable_x64(True):
        x, kernel = map(jnp.asarray, arrays(image, of_kernel))
        ours, xlas = (form.transposed_convolve(x, kernel, output_padding) for form in (cpu_convolutions, xla_convolutions))
        np.testing.assert_allclose(ours, xlas, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ["more weights than pixels", "few features"])
def test_sums_in_bfloat16_are_rounded_once(case):
    image, of_kernel, stride, padding = CONVOLUTIONS[case]
    x, kernel = (jnp.asarray(array, jnp.bfloat16) for array in arrays(image, of_kernel))
    exact = convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), stride=stride, padding=padding)
    ours = convolve(x, kernel, stride=stride, padding=padding)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)
