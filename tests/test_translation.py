"""Translating many images: each result is independent of the other images, and few images are in memory at a time."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from i2i_jax import sampling
from i2i_jax.data import augment
from i2i_jax.inference import tiling, translation

pytestmark = pytest.mark.slow

SIZES = [(16, 16), (13, 40), (16, 16), (30, 10), (16, 16), (9, 9)]


def noise(size: tuple[int, int], seed: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*size, 3), dtype, endpoint=True)


class Folder:
    """Images in memory. `written` has the translations of each; `held` is the peak number of images read but not yet written."""

    def __init__(self, images: dict[str, np.ndarray | None], **options):
        self.images, self.written, self.held = images, {}, 0
        self._reads, self._lock = 0, threading.Lock()
        self.sources = [self._source(name, image, {"size_multiple": 8} | options) for name, image in images.items()]

    def _source(self, name, image, options) -> translation.Source:
        height, width = (16, 16) if image is None else image.shape[:2]

        def read():
            with self._lock:
                self._reads += 1
                self.held = max(self.held, self._reads - len(self.written))
            return image

        def write(read_image, outputs):
            np.testing.assert_array_equal(read_image, image)
            with self._lock:
                self.written[name] = outputs

        return translation.Source(sum(name.encode()), tiling.grid(height, width, **options), read, write)


@pytest.fixture(scope="module")
def system():
    game = tiny.game_of(tiny.config_of("bicycle_gan"))
    return game.networks, tiny.state_of(game, tiny.batch_of(2))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(translation, "BATCH_PIXELS", 2 * 2 * 16 * 16)


def translated(system, images: dict[str, np.ndarray | None], *, samples: int = 2, **options) -> dict[str, np.ndarray]:
    folder = Folder(images)
    finished = list(translation.run(*system, sampling.Mode(), folder.sources, samples=samples, **options))
    assert sorted(source.key for source in finished) == sorted(sum(name.encode()) for name in folder.written)
    return folder.written


@pytest.fixture(scope="module")
def images():
    images = {name: noise(size, seed) for seed, (name, size) in enumerate(zip("abcdef", SIZES, strict=True))}
    return images | {"deep": noise((16, 16), 9, np.uint16)}


@pytest.fixture(scope="module")
def outputs(system, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "BATCH_PIXELS", 2 * 2 * 16 * 16)
        return translated(system, images)


def test_outputs_equal_sampling(system, images, outputs):
    networks, state = system
    run = jax.jit(lambda image, z, key: sampling.translate(networks, state, image, z, key))
    for name in ("a", "b", "deep"):
        z_key, key = jax.random.split(jax.random.fold_in(jax.random.key(0), sum(name.encode())))
        expected = run(augment.scale(images[name][None]), sampling.latents(z_key, 1, 2, networks.latent_dim), key)
        assert outputs[name].shape == (2, *images[name].shape)
        np.testing.assert_allclose(outputs[name].astype(int), augment.to_uint8(expected[0]).astype(int), atol=1)
    assert not np.array_equal(outputs["a"][0], outputs["a"][1])


def test_outputs_do_not_depend_on_other_images(system, images, outputs, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:2])
    few = translated(system, {name: images[name] for name in ("e", "deep", "b")})
    for name, translations in few.items():
        np.testing.assert_array_equal(translations, outputs[name])


def test_sync_and_style(system, images, outputs):
    networks, _ = system
    twins = {"a": images["a"], "c": images["a"]}
    synced = translated(system, twins, sync=True)
    np.testing.assert_array_equal(synced["a"], synced["c"])
    assert not np.array_equal(synced["a"], outputs["a"])
    styled = translated(system, twins, latents=lambda _: np.ones((2, networks.latent_dim), np.float32))
    for output in (*styled["a"], *styled["c"]):
        np.testing.assert_array_equal(output, styled["a"][0])


def test_unreadable_images_are_skipped(system, images, outputs):
    written = translated(system, {"x": None, "a": images["a"], "y": None, "c": images["c"]})
    assert written.keys() == {"a", "c"}
    np.testing.assert_array_equal(written["a"], outputs["a"])


@pytest.fixture
def copying(system, monkeypatch):
    """Translates a folder with networks that return their input; returns the shapes of all batches."""
    shapes = []

    def translator(networks, state, mode, mesh, *, samples, **options):
        def run(tiles, keys):
            assert len(keys) == len(tiles)
            shapes.append(tiles.shape)
            return jnp.repeat(augment.scale(tiles)[:, None], samples, 1)

        return run

    monkeypatch.setattr(translation, "_translator", translator)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])

    def run(folder: Folder, samples: int = 1) -> list[tuple[int, ...]]:
        for _ in translation.run(*system, sampling.Mode(), folder.sources, samples=samples):
            pass
        return shapes

    return run


def test_batches_of_one_shape_have_one_size(copying):
    folder = Folder({str(i): noise([(16, 16), (20, 9), (100, 100)][i % 3], i) for i in range(20)})
    shapes = copying(folder)
    assert set(shapes) == {(4, 16, 16, 3), (2, 24, 16, 3), (1, 104, 104, 3)}
    assert len(shapes) == 2 + 4 + 6
    for name, image in folder.images.items():
        np.testing.assert_array_equal(folder.written[name], image[None])


def test_tiles(copying):
    folder = Folder({"large": noise((90, 130), 0), "small": noise((16, 10), 1)}, tile=32)
    shapes = copying(folder, samples=2)
    assert {shape[1:3] for shape in shapes} == {(32, 32), (16, 16)}
    for name, image in folder.images.items():
        np.testing.assert_array_equal(folder.written[name], np.stack([image] * 2))


def test_few_images_are_in_memory_at_a_time(copying, monkeypatch):
    monkeypatch.setattr(translation, "AHEAD_PIXELS", 10 * 16 * 16)
    image = noise((16, 16), 0)
    folder = Folder(dict.fromkeys(map(str, range(300)), image))
    copying(folder)
    assert len(folder.written) == 300
    assert folder.held < 40


def test_errors_in_writing_are_raised(copying):
    folder = Folder({"a": noise((16, 16), 0)})

    def write(image, outputs):
        raise OSError("disk full")

    folder.sources = [source._replace(write=write) for source in folder.sources]
    with pytest.raises(OSError, match="disk full"):
        copying(folder)


@pytest.mark.parametrize("tile", [None, 16])
def test_a_film_has_the_translations_of_sync(system, tile):
    """Latent and dropout are the same for all frames, and few frames are decoded ahead of the translations."""
    frames, pulled = [noise((13, 40), seed) for seed in (*range(39), 0)], []
    grid, mode = tiling.grid(13, 40, size_multiple=8, tile=tile), sampling.Mode(dropout=True)
    decoded = (pulled.append(i) or frame for i, frame in enumerate(frames))
    outputs, ahead = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:2])
        for output in translation.stream(*system, mode, decoded, grid, seed=5):
            outputs.append(output)
            ahead = max(ahead, len(pulled) - len(outputs))
    assert len(outputs) == len(frames) and ahead <= 10
    folder = Folder({str(i): frame for i, frame in enumerate(frames)}, tile=tile)
    list(translation.run(*system, mode, folder.sources, samples=1, seed=5, sync=True))
    for i, output in enumerate(outputs):
        np.testing.assert_array_equal(output, folder.written[str(i)][0])
    np.testing.assert_array_equal(outputs[0], outputs[-1])
