"""Which of the known answers a sampler gives: for inputs all of whose K targets are known and equally likely."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

VALID_DISTANCE = 0.2  # mean |difference| inside the mask, on [-1, 1]


@dataclasses.dataclass(frozen=True)
class Modes:
    """`recovered`: how many of the K modes at least one valid sample shows. `valid`: share of samples near some mode.

    `total_variation`: distance from the valid samples' modes to uniform, 0 to 1 - 1/K; 1 where no sample is valid.
    """

    recovered: int
    valid: float
    total_variation: float


def modes(samples: Float[np.ndarray, "n h w c"], renderings: Float[np.ndarray, "k h w c"], mask: Bool[np.ndarray, "h w"]) -> Modes:
    """Grades samples for one input; both images in [-1, 1]. A sample shows the mode nearest to it inside the mask.

    With n samples even a perfect sampler has a total variation above 0.
    """
    if not mask.any():
        raise ValueError("the mask is empty: the input shows no closed outline")
    inside = np.asarray(samples)[:, None][..., mask, :] - np.asarray(renderings)[None][..., mask, :]
    distance = np.abs(inside).mean((2, 3))
    valid = distance.min(1) < VALID_DISTANCE
    counts = np.bincount(distance.argmin(1)[valid], minlength=len(renderings))
    return Modes(
        recovered=int((counts > 0).sum()),
        valid=float(valid.mean()),
        total_variation=float(np.abs(counts / counts.sum() - 1 / counts.size).sum() / 2) if valid.any() else 1.0,
    )
