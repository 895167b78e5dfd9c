"""The types of arrays that pass between modules."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, PyTree

PLAYERS = ("generator", "discriminator")  # the two players of a GAN; the encoder belongs to the generator's

Image = Float[Array, "b h w c"]
Latent = Float[Array, "b d"]
Params = PyTree[Float[Array, "..."]]


class Batch(NamedTuple):
    """A batch of image pairs.

    Attributes:
        input: the images A to translate, in [-1, 1].
        target: the images B to generate, in [-1, 1].
    """

    input: Float[Array, "b h w c_in"]
    target: Float[Array, "b h w c_out"]


class SampleType(NamedTuple):
    """How the samples of an image file are stored.

    Attributes:
        dtype: uint8, uint16, int16 or float32.
        npy: whether the file is a NumPy array (.npy).
    """

    dtype: str = "uint8"
    npy: bool = False


EIGHT_BITS = SampleType()


class Gaussian(NamedTuple):
    """A diagonal Gaussian over the latent of each image.

    Attributes:
        mean: of each dimension.
        log_var: natural logarithm of the variance of each dimension.
    """

    mean: Latent
    log_var: Latent


class Shard(NamedTuple):
    """Which rows of the global batch one computation holds.

    Attributes:
        axis: name of the mesh axis over which the batch is split among devices; None: it is not split.
        microbatches: number of microbatches into which a device splits its rows.
        microbatch: index of this microbatch.
        rows: number of rows; None: not known yet.
    """

    axis: str | None = None
    microbatches: int = 1
    microbatch: Any = 0
    rows: int | None = None
