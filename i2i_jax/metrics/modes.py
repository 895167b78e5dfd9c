"""Mode coverage: which of K known, equally likely targets of an input a sampler generates."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

VALID_DISTANCE = 0.2  # mean absolute difference inside the mask, for images in [-1, 1]


@dataclasses.dataclass(frozen=True)
class Modes:
    """The modes in the samples of one input.

    Attributes:
        recovered: the number of modes, 0 to K, with at least one valid sample.
        valid: the fraction of samples that are close to a mode.
        total_variation: total variation distance between the histogram of the valid samples' modes and the uniform distribution,
            0 to 1 - 1/K; 1 without valid samples. With few samples even a perfect sampler is above 0.
    """

    recovered: int
    valid: float
    total_variation: float


def modes(samples: Float[np.ndarray, "n h w c"], renderings: Float[np.ndarray, "k h w c"], mask: Bool[np.ndarray, "h w"]) -> Modes:
    """Assigns each sample of one input to the nearest mode and summarises the assignments.

    A sample is valid if its distance to the nearest mode is under `VALID_DISTANCE`.

    Args:
        samples: n samples of the input, in [-1, 1].
        renderings: the K possible targets, in [-1, 1].
        mask: the pixels to compare.

    Raises:
        ValueError: if the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty: the input shows no closed outline")
    distance = distances(samples, renderings, mask)
    valid = distance.min(1) < VALID_DISTANCE
    counts = np.bincount(distance.argmin(1)[valid], minlength=len(renderings))
    return Modes(
        recovered=int((counts > 0).sum()),
        valid=float(valid.mean()),
        total_variation=float(np.abs(counts / counts.sum() - 1 / counts.size).sum() / 2) if valid.any() else 1.0,
    )


def distances(
    samples: Float[np.ndarray, "n h w c"], renderings: Float[np.ndarray, "k h w c"], mask: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "n k"]:
    """The mean absolute difference, inside the mask, of each sample from each rendering."""
    return np.abs(np.asarray(samples)[:, None, mask] - np.asarray(renderings)[None, :, mask]).mean((2, 3))
