"""What the studio computes, without its page."""

import io
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax import sampling
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import images, loader
from i2i_jax.studio import session


def drawing(height: int = 90, width: int = 90, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def bicycle(trained):
    return session.opened(trained("bicycle"))


@pytest.fixture(scope="module")
def pix2pix(trained):
    return session.opened(trained("pix2pix"))


def test_an_opened_model_compiles_nothing_more(trained):
    bicycle, pix2pix = (session.opened(trained(name)) for name in ("bicycle", "pix2pix"))
    interpolations = session._slerps._cache_size()
    for model in (bicycle, pix2pix):
        for picture in (drawing(), drawing(64, 64), drawing(30, 200)):
            session.samples(model, picture, session.latents(model, seed=1, number=2), seed=1)
        assert model.translate._cache_size() == 1
    session.translated(bicycle, drawing(), session.encoded(bicycle, drawing(40, 50)))
    session.between(*session.latents(bicycle, seed=1, number=2), number=9)
    assert session._slerps._cache_size() == interpolations
    assert (bicycle.translate._cache_size(), bicycle._encode._cache_size()) == (1, 1)


def test_samples_equal_those_of_the_model(bicycle):
    z = session.latents(bicycle, seed=7, number=3)
    outputs = session.samples(bicycle, drawing(), z, seed=7)
    expected = bicycle(loader.resize(drawing(), 64), n=3, seed=7)
    np.testing.assert_allclose(np.stack(outputs).astype(int), expected.astype(int), atol=1)
    np.testing.assert_array_equal(session.latents(bicycle, seed=7, number=2), z[:2])
    assert not np.array_equal(session.latents(bicycle, seed=8, number=3), z)
    np.testing.assert_array_equal(session.translated(bicycle, drawing(), z[2]), outputs[2])


def test_a_model_without_latent_differs_by_dropout(pix2pix):
    no_latents = session.latents(pix2pix, seed=0, number=2)
    first, second = session.samples(pix2pix, drawing(), no_latents, seed=0)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(session.samples(pix2pix, drawing(), no_latents[:1], seed=0)[0], first)
    assert no_latents.shape == (2, 0)
    with pytest.raises(ConfigError, match="pix2pix has no encoder"):
        session.encoded(pix2pix, drawing())


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (64, 64)), ((30, 60), (64, 128)), ((300, 100), (192, 64))])
def test_outputs_have_the_inputs_proportions(bicycle, size, expected):
    assert session.translated(bicycle, drawing(*size), np.zeros(2, np.float32)).shape == (*expected, 3)


def test_interpolation_includes_both_ends_and_keeps_the_norm():
    start, end = np.array([2, 0], np.float32), np.array([0, 2], np.float32)
    path = session.between(start, end, 5)
    np.testing.assert_allclose(path[[0, 4]], [start, end], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 2, rtol=1e-5)
    np.testing.assert_allclose(path[2], np.sqrt([2, 2]), rtol=1e-5)
    np.testing.assert_allclose(path[1], sampling.slerp(*map(jnp.asarray, (start, end, np.float32(0.25)))), rtol=1e-5)


def test_uploads_are_read_within_limits(tmp_path, monkeypatch):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 30), 257 * 9, np.uint16)).save(deep)
    np.testing.assert_array_equal(session.read(deep), np.full((20, 30, 3), 9, np.uint8))
    Image.new("RGB", (3000, 1000)).save(tmp_path / "large.png")
    assert session.read(tmp_path / "large.png").shape == (341, 1024, 3)
    (tmp_path / "broken.png").write_bytes(deep.read_bytes()[:60])
    monkeypatch.setattr(session, "MAX_PIXELS", 2_999_999)
    monkeypatch.setattr(images, "_decoded", lambda header: pytest.fail("decoded"))
    with pytest.raises(images.ImageError, match="^large.png: is 3000x1000: 3000000 pixels, more than max_pixels=2999999 allows$"):
        session.read(tmp_path / "large.png")
    monkeypatch.undo()
    with pytest.raises(images.ImageError, match="^broken.png: "):
        session.read(tmp_path / "broken.png")


def test_brushes_have_the_names_and_colours_of_the_classes():
    config = runs.get_config("bicycle")
    pen = session.settings(config)
    assert (pen["kind"], pen["width"], pen["height"], pen["line"], pen["latent"]) == ("pen", 448, 448, 21, config.model.latent_dim)
    config.data.name, config.data.direction, config.data.crop_size = "facades", "BtoA", "128x256"
    classes = session.settings(config)
    assert (classes["kind"], classes["width"], classes["height"]) == ("classes", 448, 224)
    assert classes["brushes"][2] == {"name": "window", "colour": (0, 128, 255)}
    config.data.direction, config.objective = "AtoB", "pix2pix"
    assert (session.settings(config)["kind"], session.settings(config)["latent"]) == ("photo", 0)


def test_the_canvas_sends_its_picture():
    np.testing.assert_array_equal(session.drawn(session.url(drawing(20, 30))), drawing(20, 30))
    for nothing in (None, "", "https://example.com/a.png"):
        with pytest.raises(ConfigError, match="^there is no input: draw one, or upload an image$"):
            session.drawn(nothing)
    with pytest.raises(images.ImageError, match="^the drawing: is 2000x1000: "):
        session.drawn(session.url(np.zeros((1000, 2000, 3), np.uint8)))


def test_a_squeezed_upload_is_named():
    config = runs.get_config("bicycle")
    line = session.squeezed("strip.png", np.zeros((68, 1024, 3), np.uint8), config)
    assert line.startswith("strip.png is 15.1 times too wide for this model: it is squeezed to 64 × 64 pixels")
    assert "2.0 times too high" in session.squeezed("a.png", np.zeros((200, 100, 3), np.uint8), config)
    assert session.squeezed("a.png", np.zeros((100, 140, 3), np.uint8), config) == ""
    config.data.resize = "none"
    assert session.squeezed("strip.png", np.zeros((68, 1024, 3), np.uint8), config) == ""


def test_a_film_goes_forth_and_back():
    pictures = [np.full((20, 30, 3), 60 * level, np.uint8) for level in range(4)]
    with Image.open(io.BytesIO(session.film(pictures))) as film:
        levels = []
        for index in range(film.n_frames):
            film.seek(index)
            levels.append(round(np.asarray(film.convert("RGB")).mean() / 60))
    assert levels == [0, 1, 2, 3, 2, 1]


def test_only_grey_and_colour_can_be_shown(monkeypatch):
    config = runs.get_config("bicycle")
    config.data.input_channels = 6
    monkeypatch.setattr(session, "load", lambda run: SimpleNamespace(config=config))
    with pytest.raises(ConfigError, match="^runs/x: its images have 6 and 3 channels: the studio shows 1 .grey. or 3 .colour.$"):
        session.opened("runs/x")


def test_without_gradio_the_extra_is_named(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    status, _, err = command("studio", "--run=runs/x")
    assert (status, err) == (1, 'error: this needs gradio: pip install "i2i-jax[studio]"\n')


def test_examples_are_drawn_or_held_out_inputs(tmp_path):
    config = Config()
    drawn = session.examples(config)
    assert len(drawn) == session.EXAMPLES and {picture.shape for picture in drawn} == {(session.CANVAS, session.CANVAS, 3)}
    config.data.name, config.data.path = "folder", str(tmp_path)
    for index in range(20):
        Image.fromarray(drawing(40, 80, seed=index)).save(tmp_path / f"{index:02}.png")
    held_out = session.examples(config)
    assert [picture.shape for picture in held_out] == [(40, 40, 3)] * 2
    assert any(np.array_equal(held_out[0], drawing(40, 80, seed=index)[:, :40]) for index in range(20))
    config.data.path = str(tmp_path / "moved")
    assert session.examples(config) == []
