"""The translate command: which images it writes for inputs of every kind, its options, and its errors."""

import json
import shutil
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

import runs
from i2i_jax import build, load, sampling
from i2i_jax.config import override
from i2i_jax.data import augment, geotiff, images, splits
from i2i_jax.inference import image_files, translation

pytestmark = pytest.mark.slow

SIZES = {"fits": (64, 64), "wide": (100, 70), "dot": (1, 1), "strip": (17, 300)}  # width, height


def noise(width: int, height: int, channels: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of inputs of various sizes and image types."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(noise(*size, 3, seed=seed)).save(folder / f"{name}.png")
    Image.fromarray(noise(64, 64, 1)[..., 0]).save(folder / "grey.png")
    Image.fromarray(noise(64, 64, 4)).save(folder / "see through.png")
    Image.fromarray(noise(64, 64, 1)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(translation, "BATCH_PIXELS", 2 * 64 * 64)


@pytest.fixture
def translate(command, trained, tmp_path):
    """A function that translates into a folder of `tmp_path` and returns the outputs by file name without extension."""

    def translate(run: str, source: Path, *options: str, to: str = "out") -> dict[str, np.ndarray]:
        output = tmp_path / to
        status, out, err = command("translate", f"--run={trained(run)}", f"--input={source}", f"--output={output}", *options)
        assert status == 0, err
        assert f"open {output / 'index.html'}" in out
        return {path.stem: np.asarray(Image.open(path)) for path in output.glob("*.png")}

    return translate


def assert_same(outputs: dict, expected: dict):
    assert outputs.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name], err_msg=name)


def test_every_size_and_kind(translate, photos, tmp_path):
    outputs = translate("bicycle", photos)
    assert set(outputs) == {*SIZES, "grey", "see through", "deep"}
    for name, image in outputs.items():
        width, height = SIZES.get(name, (64, 64))
        assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "inputs" / "wide.png")), noise(*SIZES["wide"], 3, seed=1))
    text = (tmp_path / "out" / "index.html").read_text()
    for path in [*outputs, *(f"inputs/{name}" for name in outputs)]:
        assert f'src="{path.replace(" ", "%20")}.png"' in text
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".tmp")]

    # The same picture at 16 and at 8 bits gives the same output, apart from z, which depends on the file name.
    synced = translate("bicycle", photos, "--sync", to="synced")
    np.testing.assert_allclose(synced["deep"].astype(int), synced["grey"].astype(int), atol=1)
    assert not np.array_equal(outputs["deep"], outputs["grey"])


@pytest.mark.parametrize("run", ["bicycle", "pix2pix"])
def test_samples_are_a_function_of_the_seed_and_the_files_name(translate, photos, run):
    outputs = translate(run, photos, "--samples=2")
    assert len(outputs) == 2 * 7
    assert_same(translate(run, photos, "--samples=2", "--seed=0", to="again"), outputs)
    alone = translate(run, photos / "fits.png", "--samples=2", to="alone")
    assert_same(alone, {name: outputs[name] for name in ("fits_001", "fits_002")})
    assert not np.array_equal(alone["fits_001"], alone["fits_002"])
    other = translate(run, photos / "fits.png", "--samples=2", "--seed=1", to="other")
    assert not np.array_equal(other["fits_001"], alone["fits_001"])


def test_sync_gives_all_inputs_the_same_latents(translate, tmp_path):
    (tmp_path / "twins").mkdir()
    for name in ("a", "b"):
        Image.fromarray(noise(64, 64, 3)).save(tmp_path / "twins" / f"{name}.png")
    synced = translate("bicycle", tmp_path / "twins", "--samples=2", "--sync")
    for i in ("001", "002"):
        np.testing.assert_array_equal(synced[f"a_{i}"], synced[f"b_{i}"])
    own = translate("bicycle", tmp_path / "twins", "--samples=2", to="own")
    assert not np.array_equal(own["a_001"], own["b_001"])


def test_outputs_are_those_of_sampling(translate, trained, photos):
    """With the best checkpoint and a numbered one, z drawn for the file name; with --style, z is the encoder's mean."""
    game, state = build.load(trained("bicycle"))
    image = augment.scale(images.read(photos / "wide.png", channels=3)[None])
    z_key, key = jax.random.split(jax.random.fold_in(jax.random.key(5), zlib.crc32(b"wide.png")))
    z = sampling.latents(z_key, 1, 1, game.networks.latent_dim)
    expected = augment.to_uint8(sampling.translate(game.networks, state, image, z, key)[0, 0])
    for step in ("best", "2"):
        outputs = translate("bicycle", photos / "wide.png", "--seed=5", f"--step={step}", to=step)
        np.testing.assert_allclose(outputs["wide"].astype(int), expected.astype(int), atol=1)

    style = augment.scale(images.read(photos / "fits.png", channels=3)[None])
    mean = sampling.encode(game.networks, state, style).mean
    expected = augment.to_uint8(sampling.translate(game.networks, state, image, mean[None], key)[0, 0])
    outputs = translate("bicycle", photos / "wide.png", f"--style={photos / 'fits.png'}", to="styled")
    np.testing.assert_allclose(outputs["wide"].astype(int), expected.astype(int), atol=1)


def test_size(translate, photos):
    assert translate("pix2pix", photos / "strip.png", "--size=64")["strip"].shape == (64, 64, 3)


def test_inputs_of_one_stem_keep_apart(translate, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.bmp", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / "in" / name)
    assert set(translate("bicycle", tmp_path / "in")) == {"a.png", "a.bmp", "b.png"}


def test_an_input_is_never_overwritten(command, trained, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for source in (tmp_path, tmp_path / "a.png"):
        status, _, err = command("translate", f"--run={trained('pix2pix')}", f"--input={source}", f"--output={tmp_path}")
        assert (status, err) == (2, f"error: --output: {tmp_path / 'a.png'} is an input: name another folder\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_what_cannot_be_translated_is_named_and_nothing_is_written(command, trained, tmp_path, photos):
    empty, bad = tmp_path / "empty", tmp_path / "bad"
    empty.mkdir(), bad.mkdir()
    Image.new("RGB", (64, 64)).save(bad / "a.png")
    (bad / "b.png").write_bytes(b"no image")
    run, photo = f"--run={trained('bicycle')}", f"--input={photos / 'fits.png'}"
    pix2pix = f"--run={trained('pix2pix')}"
    (empty / "run").mkdir()
    (empty / "run" / "config.json").write_bytes((trained("bicycle") / "config.json").read_bytes())
    cases = [
        ([run, f"--input={empty}"], 2, f"--input: {empty} has no images (.png, "),
        ([run, f"--input={empty / 'none'}"], 2, f"--input: {empty / 'none'} does not exist"),
        ([run, f"--input={bad}"], 1, f"{bad / 'b.png'}: is not an image"),
        ([f"--run={empty}", photo], 2, f"{empty} is not a run: it has no config.json"),
        ([f"--run={empty / 'run'}", photo], 1, f"{empty / 'run' / 'checkpoints'}: no checkpoint"),
        ([run, photo, "--step=7"], 1, "no checkpoint 7: there is 2"),
        ([run, photo, "--step=newest"], 2, "--step is 'newest': must be a number or best"),
        ([run, photo, "--samples=0"], 2, "samples"),
        ([run, photo, f"--style={bad / 'b.png'}"], 1, f"{bad / 'b.png'}: is not an image"),
        ([pix2pix, photo, f"--style={bad / 'a.png'}"], 2, "--style: pix2pix has no encoder"),
        ([run, photo, "extra"], 2, "unexpected argument 'extra'"),
    ]
    for options, expected, message in cases:
        status, _, err = command("translate", f"--output={tmp_path / 'out'}", *options)
        assert (status, err.count("\n")) == (expected, 1), err
        assert err.startswith("error: "), err
        assert message in err
        assert not (tmp_path / "out").exists()


def test_images_that_break_off(command, trained, tmp_path):
    """Truncated files have a valid header, so the error shows only when they are decoded: all others are translated."""
    for name in "abc":
        Image.fromarray(noise(64, 64, 3)).save(tmp_path / f"{name}.png")
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes((tmp_path / f"{name}.png").read_bytes()[:3000])
    output = tmp_path / "out"
    status, out, err = command("translate", f"--run={trained('bicycle')}", f"--input={tmp_path}", f"--output={output}")
    assert status == 1
    assert "1 translated" in out
    assert f"error: {tmp_path / 'a.png'}: " in err.splitlines()[-1] and err.endswith("; and 1 more\n")
    assert [path.name for path in output.glob("*.png")] == ["c.png"]
    Image.open(output / "c.png").load()
    assert "c.png" in (output / "index.html").read_text() and "a.png" not in (output / "index.html").read_text()


def test_ctrl_c_leaves_whole_files_only(command, trained, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for i in range(20):
        Image.fromarray(noise(64, 64, 3, seed=i)).save(tmp_path / "in" / f"{i}.png")

    def interrupt(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.tqdm.update", interrupt)
    output = tmp_path / "out"
    status, _, err = command("translate", f"--run={trained('bicycle')}", f"--input={tmp_path / 'in'}", f"--output={output}")
    assert (status, err.splitlines()[-1]) == (1, "error: interrupted")
    files = [path for path in output.rglob("*") if path.is_file()]
    assert 2 <= len(files) < 40
    for file in files:
        assert file.suffix == ".png" and not file.name.startswith(".")
        Image.open(file).load()


def test_tile(translate, photos, command, trained, tmp_path):
    outputs = translate("bicycle", photos / "strip.png", "--tile=64", "--samples=2")
    assert {name: image.shape for name, image in outputs.items()} == dict.fromkeys(("strip_001", "strip_002"), (300, 17, 3))
    output = tmp_path / "refused"
    status, _, err = command(
        "translate", f"--run={trained('bicycle')}", f"--input={photos / 'wide.png'}", f"--output={output}", "--tile=100"
    )
    assert (status, err) == (2, "error: --tile is 100: must be a multiple of 64, at least 64\n")
    assert not output.exists()


def test_a_tiff_in_tiles_is_translated_without_being_decoded_at_once(translate, tmp_path, monkeypatch):
    """It gives the same pixels as a PNG of the same file name, which seeds latents and dropout."""
    pixels = noise(150, 100, 3)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    (tmp_path / "in_tiles").mkdir()
    tifffile.imwrite(tmp_path / "in_tiles" / "whole.png", pixels, tile=(32, 48), photometric="rgb")
    expected = translate("pix2pix", tmp_path / "whole.png", "--tile=64", to="png")
    regions, get = [], images.Tiled.__getitem__
    monkeypatch.setattr(images.Tiled, "__getitem__", lambda self, region: regions.append(region) or get(self, region))
    monkeypatch.setattr(images, "read", None)
    assert_same(translate("pix2pix", tmp_path / "in_tiles" / "whole.png", "--tile=64", to="tif"), expected)
    cut = [region for region in regions if region[0].step is None]
    assert len(cut) > 4 and max((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in cut) <= 64 * 64
    np.testing.assert_array_equal(Image.open(tmp_path / "tif" / "inputs" / "whole.png"), pixels)


def test_a_limit_of_pixels_is_named_and_raised(command, translate, trained, tmp_path, monkeypatch):
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png")
    read = build.read_config
    monkeypatch.setattr(build, "read_config", lambda run: override(read(run), {"data.max_pixels": 4095}))
    status, _, err = command("translate", f"--run={trained('bicycle')}", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'no'}")
    assert (status, err) == (1, f"error: {tmp_path / 'a.png'}: is 64x64: 4096 pixels, more than max_pixels=4095 allows\n")
    for options in ([], [f"--style={tmp_path / 'a.png'}"]):
        assert set(translate("bicycle", tmp_path / "a.png", "--max_pixels=4096", *options)) == {"a"}


def test_options_that_would_do_nothing(command, trained, tmp_path, photos, monkeypatch):
    required = f"--run={trained('pix2pix')}", f"--input={photos / 'fits.png'}", f"--output={tmp_path / 'out'}"
    status, _, err = command("translate", *required, "--frames=3")
    assert (status, err) == (2, "error: --frames applies only together with --interpolate: leave it out, or add --interpolate=mp4\n")
    read = build.read_config
    monkeypatch.setattr(build, "read_config", lambda run: override(read(run), {"sampling.dropout": False}))
    status, _, err = command("translate", *required, "--samples=3")
    assert (status, err) == (2, "error: --samples: pix2pix without dropout has only one translation of an input: leave it out\n")
    assert not (tmp_path / "out").exists()


def test_tiff_where_png_has_no_such_channels(tmp_path):
    pixels = noise(5, 4, 6)
    (tmp_path / "x.tif").write_bytes(image_files.encode(pixels))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tif"), pixels)
    for channels in (1, 3, 4):
        (tmp_path / "x.png").write_bytes(image_files.encode(pixels[..., :channels]))
        np.testing.assert_array_equal(images.read(tmp_path / "x.png", channels=channels), pixels[..., :channels])


GEO_TAGS = [
    (33550, 12, 3, (10.0, 10.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 500000.5, 5200000.25, 0.0), True),
    (34735, 3, 12, (1, 1, 0, 2, 1024, 0, 1, 1, 1026, 34737, 22, 0), True),
    (34736, 12, 1, (6378137.0,), True),
    (34737, 2, 23, b"WGS 84 / UTM zone 33N|\0", True),
    (42113, 2, 6, b"-9999\0", True),
]


def geo_values(path: Path) -> dict:
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        return {code: tags[code].value for code, *_ in GEO_TAGS if code in tags}


@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_georeferencing_is_kept(translate, tmp_path, tile):
    """The output is a TIFF with the tags of the input and the pixels that the input gives without them."""
    pixels, options = noise(100, 150, 3), ["--tile=64"] if tile else []
    source, plain = (tmp_path / name / "map.tif" for name in ("source", "plain"))
    for file, tags in ((source, GEO_TAGS), (plain, [])):
        file.parent.mkdir()
        tifffile.imwrite(file, pixels, photometric="rgb", tile=tile, extratags=tags, byteorder="<" if tile else ">")
    expected = translate("pix2pix", plain, *options, to="expected")["map"]
    assert translate("pix2pix", source, *options) == {}
    output = tmp_path / "out" / "map.tif"
    assert len(geo_values(source)) == len(GEO_TAGS) and geo_values(output) == geo_values(source)
    np.testing.assert_array_equal(tifffile.imread(output), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "previews" / "map.png")), expected)
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'src="previews/map.png"' in page and "map.tif" not in page


def gdal_tags(index: int) -> list:
    """The tags that GDAL writes: scale and tie point, coordinate system with its name as text, and the value for missing data."""
    keys = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, 34737, 22, 0, 3072, 0, 1, 32633)
    return [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 399960.0 + 640 * index, 5300040.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (34737, 2, 23, b"WGS 84 / UTM zone 33N|\0", True),
        (42113, 2, 2, b"0\0", True),
    ]


def test_a_run_on_georeferenced_bands(tmp_path, shallow, command):
    """Scenes of 4 bands to maps of one, all of 16 bits: the outputs have the scenes' tags and 16 bits, whole and by tiles."""
    for i in range(3):
        for side, channels in (("A", 4), ("B", 1)):
            (tmp_path / "pairs" / side).mkdir(parents=True, exist_ok=True)
            pixels = (noise(64, 64, channels, seed=i).astype(np.uint16) * 257).squeeze()
            options = {"photometric": "minisblack", "tile": (16, 16), "extratags": gdal_tags(i), "metadata": None}
            options |= {"planarconfig": "contig", "extrasamples": ["unspecified"] * 3} if channels == 4 else {}
            tifffile.imwrite(tmp_path / "pairs" / side / f"scene {i}.tif", pixels, **options)
    options = {"data.input_channels": 4, "data.target_channels": 1, "data.val_fraction": 0.34}
    runs.train(shallow("pix2pix", tmp_path / "pairs", options, dataset="folder"), tmp_path / "run")
    for extra in ((), ("--tile=32",)):
        out = tmp_path / "-".join(("out", *extra))
        arguments = f"--run={tmp_path / 'run'}", f"--input={tmp_path / 'pairs' / 'A'}", f"--output={out}", *extra
        assert command("translate", *arguments)[0] == 0
        for i in range(3):
            with tifffile.TiffFile(out / f"scene {i}.tif") as tiff:
                page = tiff.pages.first
                assert (page.dtype, page.shape, page.samplesperpixel) == (np.uint16, (64, 64), 1)
                written = [(code, int(tag.dtype), tag.count, tag.value) for code in geotiff.TAGS if (tag := page.tags.get(code))]
                assert len(np.unique(page.asarray() % 257)) > 100
            with tifffile.TiffFile(tmp_path / "pairs" / "A" / f"scene {i}.tif") as tiff:
                tags = tiff.pages.first.tags
                assert written == [(code, int(tag.dtype), tag.count, tag.value) for code in geotiff.TAGS if (tag := tags.get(code))]
            assert [code for code, *_ in written] == [33550, 33922, 34735, 34737, 42113]
    model = load(tmp_path / "run")
    scene = images.read(tmp_path / "pairs" / "A" / "scene 0.tif", channels=4)
    assert scene.dtype == np.uint16 and model(scene).shape == (1, 64, 64, 1)


def test_resized_outputs_are_not_georeferenced(translate, tmp_path):
    tifffile.imwrite(tmp_path / "map.tif", noise(100, 150, 3), photometric="rgb", extratags=GEO_TAGS)
    assert set(translate("pix2pix", tmp_path / "map.tif", "--size=64")) == {"map"}
    assert not list((tmp_path / "out").glob("*.tif"))


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_georeferenced_outputs_are_readable(tmp_path, channels):
    pixels, file = noise(50, 40, channels), tmp_path / "x.tif"
    file.write_bytes(image_files.encode(pixels, geo_tags=GEO_TAGS))
    np.testing.assert_array_equal(images.read(file, channels=channels), pixels)
    copied = geotiff.read(file)
    assert image_files.encode(pixels, geo_tags=copied) == file.read_bytes()
    assert geo_values(file)[34737] == "WGS 84 / UTM zone 33N|"


def test_files_without_georeferencing(tmp_path):
    pixels = noise(50, 40, 3)
    tifffile.imwrite(tmp_path / "plain.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "turned.tif", pixels, photometric="rgb", extratags=[*GEO_TAGS, (274, "H", 1, 6, True)])
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0" + bytes(50))
    for name in ("plain.tif", "turned.tif", "x.png", "damaged.tif", "missing.tif"):
        assert geotiff.read(tmp_path / name) == (), name


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory) -> Path:
    """A run trained on pairs of 8-bit colour inputs and 16-bit grey targets."""
    folder = tmp_path_factory.mktemp("deep")
    for seed in range(3):
        for side, pixels in (("A", noise(64, 64, 3, seed=seed)), ("B", noise(64, 64, 1, seed=seed)[..., 0].astype(np.uint16) * 257)):
            (folder / "pairs" / side / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "pairs" / side / "train" / f"{seed}.png")
    options = {"data.target_channels": 1, "data.val_fraction": 0.34}
    runs.train(runs.tiny("pix2pix", folder / "pairs", options, dataset="folder"), folder / "run")
    return folder / "run"


def test_outputs_have_the_bits_of_the_targets(command, deep_run, tmp_path):
    """Those of the run, of the packed run and of the repacked one are the same; without the record of its bits, outputs have 8."""
    source = deep_run.parent / "pairs" / "A" / "train" / "0.png"
    assert splits.read(deep_run).target_type.dtype == "uint16"

    def translated(run: Path, to: str, *options: str) -> np.ndarray:
        status, _, err = command("translate", f"--run={run}", f"--input={source}", f"--output={tmp_path / to}", *options)
        assert status == 0, err
        return images.read(tmp_path / to / "0.png", channels=1)

    expected = translated(deep_run, "run")
    assert expected.dtype == np.uint16 and len(np.unique(expected)) > 256
    for name, origin in (("packed", deep_run), ("repacked", tmp_path / "packed")):
        status, _, err = command("pack", f"--run={origin}", f"--out={tmp_path / name}")
        assert status == 0, err
        np.testing.assert_array_equal(translated(tmp_path / name, f"by {name}"), expected)
    older = tmp_path / "older"
    shutil.copytree(deep_run, older)
    record = json.loads((older / "pairs.json").read_text())
    assert record.pop("target_bits") == 16
    (older / "pairs.json").write_text(json.dumps(record))
    eight = translated(older, "by an older version")
    assert eight.dtype == np.uint8
    np.testing.assert_allclose(eight.astype(int) * 257, expected, atol=129)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("geo_tags", [(), GEO_TAGS])
def test_16_bit_files(tmp_path, channels, geo_tags):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 4, channels), np.uint16)
    file = tmp_path / f"x{image_files.suffix(channels, georeferenced=bool(geo_tags))}"
    file.write_bytes(image_files.encode(pixels, geo_tags=geo_tags))
    read = images.read(file, channels=channels)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


def test_uint16_is_the_inverse_of_scale():
    pixels = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(augment.to_uint16(np.asarray(augment.scale(pixels))), pixels)
    np.testing.assert_array_equal(augment.to_uint16(np.array([-1.5, -1, 1, 1.5], np.float32)), [0, 0, 65535, 65535])
