"""Videos of walks through the latents."""

import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence

from i2i_jax.inference import video
from i2i_jax.pages import grids


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(number: int) -> list[np.ndarray]:
    """Frames with odd height and width in which a bright spot moves."""
    y, x = np.mgrid[:51, :75]
    return [np.repeat((255 * np.exp(-((x - 7 * i) ** 2 + (y - 25) ** 2) / 200)).astype(np.uint8)[..., None], 3, 2) for i in range(number)]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_has_all_frames_and_loops(tmp_path, kind):
    frames, path = smooth(5), tmp_path / "new" / f"film.{kind}"
    video.write(path, iter(frames))
    with Image.open(path) as film:
        assert (film.info["loop"], film.n_frames, film.size) == (0, 5, (75, 51))
        for shown, frame in zip(ImageSequence.Iterator(film), frames, strict=True):
            assert kind == "webp" or shown.info["duration"] == 1000 // video.FPS
            assert np.abs(np.asarray(shown.convert("RGB")).astype(int) - frame).mean() < 4
    assert [file.name for file in path.parent.iterdir()] == [f"film.{kind}"]


def test_mp4_has_all_frames(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="mp4 needs the extra `video`")
    frames, path = smooth(5), tmp_path / "film.mp4"
    video.write(path, iter(frames))
    decode = [ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(decode, capture_output=True, check=True)
    assert all(part in decoded.stderr.decode() for part in ("Video: h264", "yuv420p", "76x52", f"{video.FPS} fps"))
    shown_frames = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 52, 76, 3)[:, :51, :75]
    assert len(shown_frames) == 5
    for shown, frame in zip(shown_frames, frames, strict=True):
        assert np.abs(shown.astype(int) - frame).mean() < 6


@pytest.mark.parametrize(("inputs", "across", "down"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (36, 4, 9)])
def test_a_grid_shows_each_input_beside_its_output(inputs, across, down):
    walks = [video.Walked(noise(96, 96, 3, seed=i), [noise(96, 96, 3, seed=100 * i + n) for n in range(2)]) for i in range(inputs)]
    frames = list(video.grid(walks))
    assert len(frames) == 2
    side = 96 + grids.GAP
    assert frames[0].shape == (grids.LABEL_HEIGHT + down * side, grids.GAP + 2 * across * side, 3)
    for index, walk in enumerate(walks):
        top, left = grids.LABEL_HEIGHT + index // across * side, grids.GAP + 2 * (index % across) * side
        for n, frame in enumerate(frames):
            np.testing.assert_array_equal(frame[top : top + 96, left : left + 96], walk.input)
            np.testing.assert_array_equal(frame[top : top + 96, left + side :][:, :96], walk.outputs[n])


@pytest.mark.slow
def test_interpolation_walks_through_the_samples_of_sync(command, trained, tmp_path):
    """The walk is the same for inputs of all sizes, and passes through the samples that --sync gives."""
    (tmp_path / "in").mkdir()
    for name, shape in (("a", (64, 64, 3)), ("b", (64, 64, 3)), ("c", (70, 40, 3))):
        Image.fromarray(noise(*shape, seed=ord(name) // 99)).save(tmp_path / "in" / f"{name}.png")  # a and b are the same image
    common = [f"--run={trained('bicycle')}", f"--input={tmp_path / 'in'}", "--samples=3", "--seed=4"]
    kept = {}

    def keep(path, frames):
        kept[path] = list(frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "write", keep)
        status, out, err = command("translate", *common, f"--output={tmp_path / 'film'}", "--interpolate=webp", "--frames=4")
    assert status == 0, err
    path = tmp_path / "film" / "interpolation.webp"
    assert out == f"written: {path}\n"
    frames = kept[path]
    assert len(frames) == 12
    status, _, err = command("translate", *common, f"--output={tmp_path / 'images'}", "--sync")
    assert status == 0, err
    side, bottom = 128 + grids.GAP, grids.LABEL_HEIGHT
    shown = [frame[bottom : bottom + 128, grids.GAP + side :][:, :128] for frame in frames]
    for i in range(3):
        image = np.asarray(Image.open(tmp_path / "images" / f"a_{i + 1:03d}.png"))
        np.testing.assert_allclose(shown[4 * i][::2, ::2].astype(int), image.astype(int), atol=1)
    for frame, output in zip(frames, shown, strict=True):
        np.testing.assert_array_equal(frame[bottom + side :][:128, grids.GAP + side :][:, :128], output)
    changes = [np.abs(now.astype(int) - before).max() for now, before in zip(shown, [shown[-1], *shown], strict=False)]
    assert min(changes) > 0


def test_invalid_videos(command, trained, tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    bicycle, pix2pix = f"--run={trained('bicycle')}", f"--run={trained('pix2pix')}"
    for options, expected, message in (
        ([pix2pix, "--samples=3"], 2, "--interpolate: pix2pix has no latent to walk through"),
        ([bicycle], 2, "--interpolate walks from sample to sample: give --samples=2 or more"),
        ([bicycle, "--samples=3", f"--style={tmp_path / 'a.png'}"], 2, "and no --style"),
        ([bicycle, "--samples=3", "--interpolate=avi"], 2, "interpolate"),
        ([bicycle, "--samples=3"], 1, "a video has room for 0 inputs, not 1"),
        ([bicycle, "--samples=3", "--interpolate=mp4"], 1, 'this needs imageio_ffmpeg: pip install "i2i-jax[video]"'),
    ):
        monkeypatch.setattr(video, "MOST", 0 if "room" in message else 36)
        monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
        answer = command("translate", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}", "--interpolate=gif", *options)
        assert answer[0] == expected
        assert message in answer[2] and answer[2].count("\n") == 1
    assert not (tmp_path / "out").exists()
