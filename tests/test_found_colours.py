"""Label maps are known by their pixels, with their colours, in spite of scaling and JPEG; photos and lines are told from them."""

import io

import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax.data import facade_layouts, found_colours, shapes
from i2i_jax.data.palettes import PALETTES
from i2i_jax.inference import drawings
from i2i_jax.studio import session

FACADES = PALETTES["facades"].classes
OWN = {(10, 120, 30): 0.5, (200, 200, 60): 0.3, (60, 60, 200): 0.15, (80, 60, 200): 0.05}  # the last two are 20 levels apart
LAYOUTS = [facade_layouts.layout(seed) for seed in range(6)]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def scaled(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def own_maps(count: int = 4) -> list[np.ndarray]:
    """Label maps of squares of 16 pixels, in the colours of OWN by their shares."""
    random = np.random.default_rng(0)
    classes = [random.choice(len(OWN), (8, 8), p=[*OWN.values()]) for _ in range(count)]
    return [np.array([*OWN], np.uint8)[each].repeat(16, 0).repeat(16, 1) for each in classes]


def photos(channels: int) -> list[np.ndarray]:
    """Smooth random fields."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (4, 9, 9, channels), np.uint8)
    return [np.repeat(scaled(np.repeat(each, 3 // channels, -1), 128), 1, -1) for each in small]


def nearest(colours, known) -> list[tuple[str, float]]:
    """For each colour the nearest known one, by name, and how far it is."""
    distances = {name: np.linalg.norm(np.array([*colours]) - colour, axis=1) for name, colour in known.items()}
    return [min((distance[i], name) for name, distance in distances.items())[::-1] for i in range(len(colours))]


def test_exact_colours_are_all_found():
    found = found_colours.label_colours(own_maps())
    assert set(found) == set(OWN)
    assert [*found.values()] == sorted(found.values(), reverse=True) and sum(found.values()) == pytest.approx(1)
    assert max(abs(found[colour] - share) for colour, share in OWN.items()) < 0.08


CHANGES = {
    "PNG": lambda image: image,
    "JPEG 95": lambda image: jpeg(image, 95),
    "JPEG 75": lambda image: jpeg(image, 75),
    "scaled": lambda image: scaled(image, 200),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_twelve_classes_of_facades(change):
    """Each colour once, near that of its class, though JPEG makes tens of thousands of colours of them."""
    found = found_colours.label_colours([change(image) for image in LAYOUTS])
    names, distances = zip(*nearest(found, FACADES), strict=True)
    assert sorted(names) == sorted(FACADES) and max(distances) < 20
    assert found_colours.known_palette(found) == PALETTES["facades"]


def test_colours_of_no_known_palette():
    assert found_colours.known_palette(found_colours.label_colours([jpeg(each, 75) for each in own_maps()])) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_photos(channels):
    assert found_colours.label_colours(photos(channels)) == {} and found_colours.paper(photos(channels)) is None


def test_photos_before_white():
    outside = shapes.coverage(shapes.outline(np.random.RandomState(0)))[..., None] == 0
    objects = [np.where(outside, 255, scaled(photo, 64)).astype(np.uint8) for photo in photos(3)]
    assert found_colours.label_colours(objects) == {} and found_colours.paper(objects) is None


def test_files_of_facades(shared):
    """Of the public JPEG files, 256x256: labels are label maps, photos are not."""
    files = sorted((shared / "data" / "facades" / "test").glob("*.jpg"))[:16]
    pictures = [np.asarray(Image.open(file)) for file in files]
    labels, faces = [picture[:, 256:] for picture in pictures], [picture[:, :256] for picture in pictures]
    found = found_colours.label_colours(labels)
    assert 9 <= len(found) <= 13 and found_colours.known_palette(found) == PALETTES["facades"]
    assert found_colours.label_colours(faces) == {} and found_colours.paper(faces) is None


@pytest.mark.parametrize("quality", [None, 75])
def test_lines_and_their_paper(quality):
    lines = [np.repeat(shapes.outline(np.random.RandomState(seed))[..., None], 3, 2) for seed in range(4)]
    for images, paper in ((lines, (255, 255, 255)), ([255 - image for image in lines], (0, 0, 0))):
        pictures = [jpeg(image, quality) for image in images] if quality else images
        assert found_colours.label_colours(pictures) == {} and found_colours.paper(pictures) == paper


def test_masks():
    """Two classes, of which the background is the first; no lines."""
    inside = [shapes.coverage(shapes.outline(np.random.RandomState(seed))) > 127 for seed in range(4)]
    masks = [np.repeat(np.where(mask, 255, 0)[..., None].astype(np.uint8), 3, 2) for mask in inside]
    found = found_colours.label_colours(masks)
    assert [*found] == [(0, 0, 0), (255, 255, 255)]
    assert found_colours.known_palette(found) is None  # though most of their pixels have the black of cityscapes


KINDS = {
    "label maps": (own_maps(), "classes", [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in OWN]),
    "facades": ([jpeg(image, 90) for image in LAYOUTS], "classes", [*FACADES]),
    "lines on black": ([255 - np.repeat(shapes.outline(np.random.RandomState(0))[..., None], 3, 2)], "pen", ["black", "white"]),
    "photos": (photos(3), "photo", ["white", "black"]),
}


@pytest.mark.parametrize(("inputs", "kind", "names"), KINDS.values(), ids=KINDS)
def test_brushes_of_own_pairs(inputs, kind, names, tmp_path):
    """Colours without names are named by themselves and their share."""
    for index, image in enumerate(inputs):
        for side, pixels in (("A", image), ("B", image[..., :3] // 2)):
            (tmp_path / f"train{side}").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"train{side}" / f"{index}.png")
    config = runs.tiny("bicycle", tmp_path, {"data.val_fraction": 0.0}, dataset="folder")
    found, brushes = drawings.brushes(config, drawings.inputs(config))
    assert found == kind and sorted(name.split()[0] for name in brushes) == sorted(names)
    assert drawings.brushes(config) == ("pen", drawings.PEN)
    assert [brush["name"] for brush in session.settings(config)["brushes"]] == [*brushes]


def test_names_of_colours_without_a_palette():
    field = np.full((64, 64, 3), (1, 2, 3), np.uint8)
    field[:4, :4] = (255, 0, 171)
    _, brushes = drawings.brushes(runs.tiny("bicycle", "pairs", dataset="folder"), [field])
    assert brushes == {"#010203 100%": (1, 2, 3), "#ff00ab 0.2%": (255, 0, 171)}


def test_pairs_that_are_not_there_any_more(tmp_path):
    assert drawings.inputs(runs.tiny("bicycle", tmp_path / "gone", dataset="folder")) == []
