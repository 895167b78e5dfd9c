"""What every distance between two samples of features asks of them."""

import numpy as np
from jaxtyping import Float


class FeaturesError(ValueError):
    """Features between which no distance is defined."""


def comparable(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m e"], *, least: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Both in float64. Raises FeaturesError on fewer than `least` images, different dimensions and what is not finite."""
    if first.shape[1] != second.shape[1]:
        raise FeaturesError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions: both must come from one network")
    for which, features in (("first", first), ("second", second)):
        if len(features) < least:
            raise FeaturesError(f"the {which} sample has {len(features)} images: at least {least} are needed")
        broken = np.flatnonzero(~np.isfinite(features).all(1))
        if broken.size:
            raise FeaturesError(
                f"the {which} sample has features that are not finite: of {broken.size} images, first of number {broken[0]}"
            )
    return first.astype(np.float64), second.astype(np.float64)
