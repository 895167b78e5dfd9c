"""Near-duplicate images: found by a perceptual hash, and kept in the same split."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Num, UInt64
from PIL import Image

from i2i_jax.data.folder import FolderError

NEAR = 5  # of 64 bits: a resized or recompressed copy differs in at most so many, other images in many more


def difference_hash(image: Num[np.ndarray, "h w c"]) -> np.uint64:
    """Returns the difference hash (dHash) of an image: 64 bits that hardly change with scaling, compression and brightness.

    Each bit says whether one cell of an 8 x 8 grid is darker than its right neighbour.
    """
    light = Image.fromarray(image.mean(2, dtype=np.float32)).resize((9, 8), Image.Resampling.BOX)
    pixels = np.asarray(light)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1]).view(np.uint64)[0]


def groups(hashes: UInt64[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """Groups near-duplicates, transitively.

    Args:
        hashes: k hashes of each of n items; two items are near-duplicates if all k hashes differ in at most NEAR bits.

    Returns:
        A group number for each item.
    """
    group = np.arange(len(hashes))
    for i, own in enumerate(hashes):
        near = (np.bitwise_count(hashes[i + 1 :] ^ own) <= NEAR).all(1)
        if near.any():
            group[np.isin(group, group[i + 1 :][near])] = group[i]
    return group


def split(names: Sequence[str], group: Int[np.ndarray, " n"], *, val: float, test: float) -> list[str]:
    """Assigns items to train, val and test, each group to one split. The result depends only on names and groups.

    Args:
        names: unique names of the n items.
        group: the group of each item, as `groups` returns them.
        val: share of the items to hold out for val, in [0, 1]; at least one item unless it is 0.
        test: likewise for test.

    Returns:
        The split of each item.

    Raises:
        FolderError: if the groups are too large to give each split an item.
    """
    members: dict[int, list[int]] = {}
    for index, number in enumerate(group.tolist()):
        members.setdefault(number, []).append(index)
    room = {name: max(1, round(share * len(names))) for name, share in (("test", test), ("val", val)) if share}
    splits = ["train"] * len(names)
    for indices in sorted(members.values(), key=lambda indices: _digest(min(names[index] for index in indices))):
        if name := next((name for name in room if len(indices) <= room[name]), None):
            room[name] -= len(indices)
            for index in indices:
                splits[index] = name
    if missing := {"train", *room} - set(splits):
        raise FolderError(
            f"{len(names)} images, {max(map(len, members.values()))} of them near-duplicates of each other, leave none for "
            f"{' and '.join(sorted(missing))}: add images, or choose other shares"
        )
    return splits


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()
