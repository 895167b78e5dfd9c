"""Near-duplicates: copies are recognised, and stay in one split."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from i2i_jax.data import duplicates
from i2i_jax.data.folder import FolderError

BITS = np.uint64(0b11111)


def photo(name: str = "chelsea") -> Image.Image:
    return Image.fromarray(getattr(data, name)())


def distance(a: Image.Image, b: Image.Image) -> int:
    return int(np.bitwise_count(np.bitwise_xor(*(duplicates.difference_hash(np.atleast_3d(np.asarray(x))) for x in (a, b)))))


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


COPIES = {
    "smaller": lambda image: image.resize((120, 80)),
    "compressed": compressed,
    "darker": lambda image: image.point(lambda value: value * 0.7),
    "grey": lambda image: image.convert("L"),
    "as 16 bits": lambda image: np.asarray(image).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_near(copy):
    for name in ("chelsea", "coffee", "astronaut"):
        assert distance(photo(name), COPIES[copy](photo(name))) <= duplicates.NEAR, name


def test_other_pictures_are_not():
    different = [photo("chelsea"), photo("coffee"), photo("astronaut"), photo("rocket"), photo("chelsea").crop((100, 0, 300, 200))]
    for i, a in enumerate(different):
        for b in different[:i]:
            assert distance(a, b) > 2 * duplicates.NEAR


def test_groups_go_by_way_of_others_and_need_both_hashes():
    one, two, far = np.uint64(0), BITS, np.uint64(2**64 - 1)
    hashes = np.array([[one, 0], [far, 0], [two, 0], [two << np.uint64(5) | two, 0], [one, far]], np.uint64)
    group = duplicates.groups(hashes)
    assert group[0] == group[2] == group[3]
    assert len(set(group.tolist())) == 3
    assert duplicates.groups(hashes[:0]).shape == (0,)


def test_shares_are_held_out_and_no_group_is_torn():
    names = [f"{i:03d}" for i in range(200)]
    group = np.arange(200)
    group[:60] = np.arange(60) // 3
    splits = duplicates.split(names, group, val=0.1, test=0.2)
    assert [splits.count(name) for name in ("train", "val", "test")] == [140, 20, 40]
    for number in range(20):
        assert len(set(splits[3 * number : 3 * number + 3])) == 1
    assert duplicates.split(names[::-1], group[::-1], val=0.1, test=0.2) == splits[::-1]


def test_without_shares_all_is_training():
    assert duplicates.split(["a", "b"], np.arange(2), val=0.0, test=0.0) == ["train", "train"]


@pytest.mark.parametrize(("groups", "missing"), [([0, 0, 0, 0], "test and val"), ([0, 1], "train")])
def test_too_few_different_images(groups, missing):
    with pytest.raises(FolderError, match=f"leave none for {missing}: add images"):
        duplicates.split([str(i) for i in range(len(groups))], np.array(groups), val=0.1, test=0.1)
