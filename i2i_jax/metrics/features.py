"""Checks on two samples of features before a distance between them is computed."""

import numpy as np
from jaxtyping import Float


class FeaturesError(ValueError):
    """Features between which the distance is undefined; the message is one line."""


def comparable(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m e"], *, least: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Checks two samples of features and converts them to float64.

    Args:
        first: features of n images.
        second: features of m images.
        least: the smallest number of images allowed in each sample.

    Raises:
        FeaturesError: if a sample has fewer than `least` images or contains NaN or Inf, or if the dimensions differ.
    """
    if first.shape[1] != second.shape[1]:
        raise FeaturesError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions: both must come from the same network")
    for which, features in (("first", first), ("second", second)):
        if len(features) < least:
            raise FeaturesError(f"the {which} sample has {len(features)} images: at least {least} are needed")
        nonfinite = np.flatnonzero(~np.isfinite(features).all(1))
        if nonfinite.size:
            raise FeaturesError(
                f"the {which} sample has NaN or Inf in the features of {nonfinite.size} images, the first of which is number {nonfinite[0]}"
            )
    return first.astype(np.float64), second.astype(np.float64)
