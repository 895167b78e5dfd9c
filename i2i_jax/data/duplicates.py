"""Near-duplicates: found by a perceptual hash, and kept in one split."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer, UInt64
from PIL import Image

from i2i_jax.data.folder import FolderError

NEAR = 5  # of 64 bits: a copy that was resized or compressed again differs in fewer, another picture in many more


def difference_hash(image: Integer[np.ndarray, "h w c"]) -> np.uint64:
    """Whether it grows lighter to the right, at 8 x 8 places: 64 bits that scaling, compression and a change of light hardly move."""
    light = Image.fromarray(image.mean(2, dtype=np.float32)).resize((9, 8), Image.Resampling.BOX)
    pixels = np.asarray(light)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1]).view(np.uint64)[0]


def groups(hashes: UInt64[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """A number for each of n items: equal for those that are near-duplicates, if only by way of others. All k hashes must be near."""
    group = np.arange(len(hashes))
    for i, own in enumerate(hashes):
        near = (np.bitwise_count(hashes[i + 1 :] ^ own) <= NEAR).all(1)
        if near.any():
            group[np.isin(group, group[i + 1 :][near])] = group[i]
    return group


def split(names: Sequence[str], group: Int[np.ndarray, " n"], *, val: float, test: float) -> list[str]:
    """The split of each item: these shares are held out, at least one item of each; groups stay together.

    It depends on nothing but names and groups. Raises FolderError where the groups are too large for that.
    """
    members: dict[int, list[int]] = {}
    for place, number in enumerate(group.tolist()):
        members.setdefault(number, []).append(place)
    room = {name: max(1, round(share * len(names))) for name, share in (("test", test), ("val", val)) if share}
    splits = ["train"] * len(names)
    for places in sorted(members.values(), key=lambda places: _digest(min(names[place] for place in places))):
        if name := next((name for name in room if len(places) <= room[name]), None):
            room[name] -= len(places)
            for place in places:
                splits[place] = name
    if missing := {"train", *room} - set(splits):
        raise FolderError(
            f"{len(names)} images, {max(map(len, members.values()))} of them near-duplicates of each other, leave none for "
            f"{' and '.join(sorted(missing))}: more of them, or other shares, would do"
        )
    return splits


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()
