"""The arrays that pass between modules."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, PyTree

PLAYERS = ("generator", "discriminator")

Image = Float[Array, "b h w c"]
Latent = Float[Array, "b d"]
Params = PyTree[Float[Array, "..."]]


class Batch(NamedTuple):
    """Pairs of images: `input` [b, h, w, c_in] (A) and `target` [b, h, w, c_out] (B), both in [-1, 1]."""

    input: Float[Array, "b h w c_in"]
    target: Float[Array, "b h w c_out"]


class Gaussian(NamedTuple):
    """A diagonal Gaussian over latents: `mean` and `log_var`, each [b, d]."""

    mean: Latent
    log_var: Latent


class Shard(NamedTuple):
    """The rows of the global batch that one computation has.

    Those of one device of the mesh axis `axis` (None: all rows), of which it has the `microbatch`-th of `microbatches` parts.
    """

    axis: str | None = None
    microbatches: int = 1
    microbatch: Any = 0
