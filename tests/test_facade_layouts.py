"""The drawn label maps: only colours of the palette, the same bytes for a seed, and about as dense as those of the data set."""

import hashlib

import numpy as np

from i2i_jax.data import facade_layouts
from i2i_jax.data.palettes import PALETTES

CLASSES = PALETTES["facades"].classes

# Mean shares over 200 label maps of the set's training pairs.
SHARES = {
    "background": 0.234, "facade": 0.351, "window": 0.130, "door": 0.014, "cornice": 0.027, "sill": 0.037, "balcony": 0.048,
    "blind": 0.009, "deco": 0.014, "molding": 0.079, "pillar": 0.006, "shop": 0.053,
}  # fmt: skip


def test_only_colours_of_the_palette():
    shares = np.zeros(len(CLASSES))
    for seed in range(100):
        image = facade_layouts.layout(seed)
        assert (image.shape, image.dtype) == ((facade_layouts.SIZE, facade_layouts.SIZE, 3), np.uint8)
        is_class = (image[..., None, :] == np.array([*CLASSES.values()])).all(-1)
        assert (is_class.sum(-1) == 1).all()
        present = dict(zip(CLASSES, is_class.any((0, 1)), strict=True))
        assert all(present[name] for name in ("background", "facade", "window", "door", "sill", "molding")), seed
        shares += is_class.mean((0, 1)) / 100
    for (name, expected), share in zip(SHARES.items(), shares, strict=True):
        assert abs(share - expected) < 0.03, (name, share)


def test_the_same_bytes_for_a_seed():
    assert (
        hashlib.sha256(facade_layouts.layout(0).tobytes()).hexdigest() == "9049c928bafe075d5d673aa3719ee774c21f97aa76d92c2c572eefe82275bef4"
    )
    assert len({facade_layouts.layout(seed).tobytes() for seed in range(100)}) == 100
