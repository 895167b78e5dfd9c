"""Films: decoded, translated and encoded as a stream, with the rate, size and sound of the input."""

import itertools
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i_jax.inference import film, translation, video
from i2i_jax.inference.folders import Request
from i2i_jax.storage import files


def run_ffmpeg(*arguments: str | Path) -> str:
    """Runs ffmpeg and returns its messages."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="films need the extra `video`")
    result = subprocess.run([ffmpeg.get_ffmpeg_exe(), "-hide_banner", *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL)
    return result.stderr.decode()


def smooth(number: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Grey frames in which a bright spot moves."""
    y, x = np.mgrid[:height, :width]
    spots = [np.exp(-((x - 7 * i) ** 2 + (y - 25) ** 2) / 200) for i in range(number)]
    return [np.repeat((40 + 180 * spot).astype(np.uint8)[..., None], 3, 2) for spot in spots]


@pytest.fixture
def source(tmp_path) -> Path:
    """A film of 8 frames at 30000/1001 frames per second, with sound."""
    run_ffmpeg("-version")
    video.encode(tmp_path / "silent.mp4", iter(smooth(8)), rate="30000/1001")
    tone = ["-f", "lavfi", "-i", "sine=d=0.25"]
    run_ffmpeg("-i", tmp_path / "silent.mp4", *tone, "-c:v", "copy", "-c:a", "aac", "-movflags", "+faststart", tmp_path / "film.mp4")
    return tmp_path / "film.mp4"


@pytest.fixture
def translate(command, trained, tmp_path):
    """A function that translates a film to `output`, and returns the exit status, stdout and stderr."""

    def translate(source: Path, output: Path, *options: str, run: str = "bicycle") -> tuple[int, str, str]:
        return command("translate", f"--run={trained(run)}", f"--input={source}", f"--output={output}", *options)

    return translate


@pytest.fixture
def identity(monkeypatch):
    """Replaces the networks by the identity."""
    monkeypatch.setattr(translation, "stream", lambda networks, state, mode, frames, grid, **options: frames)


def assert_alike(shown: list[np.ndarray], expected: list[np.ndarray], *, most: float):
    for image, other in zip(shown, expected, strict=True):
        assert np.abs(image.astype(int) - other).mean() < most


def halved(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def test_a_film_is_known_by_its_name(tmp_path):
    for name in ("a.mp4", "b.MOV", "c.gif", "d.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    answers = {
        ("a.mp4", "out.mp4"): True,
        ("a.mp4", "out"): True,
        ("b.MOV", "out.mp4"): True,
        ("c.gif", "out.mp4"): True,
        ("c.gif", "out"): False,
        ("c.gif", "folder.mp4"): False,
        ("d.png", "out.mp4"): False,
        ("folder.mp4", "out"): False,
        ("missing.mp4", "out.mp4"): False,
    }
    for (name, output), expected in answers.items():
        assert film.is_film(Request(run="", input=tmp_path / name, output=tmp_path / output)) is expected, (name, output)


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "film.mp4"
    for content in (b"first", b"second"):
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"first"
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"second" and list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match=r"film.mp4/film.mp4: cannot be written"), files.replacing(path / "film.mp4"):
        pass


def test_size_rate_length_and_frames_of_a_film(source):
    header = film.probe(source)
    assert header[1:5] == (48, 64, Fraction(30000, 1001), 1) and header.number == 8
    assert_alike(list(film.frames(header)), smooth(8), most=3)


def test_a_film_is_shown_upright_and_its_pixels_need_not_be_square(source, tmp_path):
    run_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", tmp_path / "turned.mp4")
    header = film.probe(tmp_path / "turned.mp4")
    assert (header.height, header.width) == (64, 48)
    assert next(film.frames(header)).shape == (64, 48, 3)
    run_ffmpeg("-i", source, "-vf", "setsar=4/3", tmp_path / "squeezed.mp4")
    assert film.probe(tmp_path / "squeezed.mp4").pixel_aspect == Fraction(4, 3)


def test_a_variable_frame_rate_becomes_constant(tmp_path):
    pictures = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=1000:d=1", "-vf", r"select='not(mod(n\,41)*mod(n\,67))'"]
    run_ffmpeg(*pictures, "-fps_mode", "vfr", "-c:v", "libvpx", tmp_path / "screen.webm")
    header = film.probe(tmp_path / "screen.webm")
    assert header.rate == film.RATE_IF_HIGHER
    assert abs(len(list(film.frames(header))) - film.RATE_IF_HIGHER) <= 3


def test_films_that_cannot_be_read(source, tmp_path):
    content = source.read_bytes()
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=0.25", tmp_path / "sound.mp4")
    (tmp_path / "text.mp4").write_text("no film\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    for name, message in (
        ("sound", r"is not a film that ffmpeg can read \(it has no pictures\)"),
        ("text", r"is not a film that ffmpeg can read \(Invalid data found when processing input\)"),
        ("empty", r"is not a film that ffmpeg can read \(Invalid data found when processing input\)"),
        ("cut", r"is damaged after frame \d+ \(.+\)"),
    ):
        path = tmp_path / f"{name}.mp4"
        with pytest.raises(video.VideoError, match=rf"^{re.escape(str(path))}: {message}$"):
            list(film.frames(film.probe(path)))


def test_an_unfinished_recording_is_read_as_far_as_it_goes(tmp_path, capsys):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-c:v", "libvpx", tmp_path / "whole.webm")
    path = tmp_path / "cut.webm"
    path.write_bytes((tmp_path / "whole.webm").read_bytes()[:-3000])
    unfinished = film.probe(path)._replace(seconds=None)
    number = len(list(film.frames(unfinished)))
    assert 0 < number < 50
    assert capsys.readouterr().out == f"{path}: ffmpeg reports damage, {number} frames were read (File ended prematurely)\n"
    with pytest.raises(video.VideoError, match=rf"is damaged after frame {number} \(File ended prematurely\)$"):
        list(film.frames(unfinished._replace(seconds=2.0)))


def test_frames_rate_size_and_sound_are_kept(translate, identity, source, tmp_path):
    output = tmp_path / "new" / "out.mp4"
    assert translate(source, output) == (0, f"written: {output}\n", "")
    assert list(output.parent.iterdir()) == [output]
    header = film.probe(output)
    assert header[1:5] == film.probe(source)[1:5]
    assert_alike(list(film.frames(header)), smooth(8), most=4)
    described = run_ffmpeg("-i", output)
    assert re.search(r"Video: h264 .*yuv420p\(tv, bt709", described) and "Audio: aac" in described


def test_colours_are_kept(translate, identity, tmp_path):
    colours = [np.full((48, 64, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128))]
    run_ffmpeg("-version")
    video.encode(tmp_path / "film.mp4", iter(colours))
    assert translate(tmp_path / "film.mp4", tmp_path / "out.mp4")[0] == 0
    shown = list(film.frames(film.probe(tmp_path / "out.mp4")))
    assert_alike(shown, list(film.frames(film.probe(tmp_path / "film.mp4"))), most=4)
    assert_alike(shown, colours, most=5)


def test_an_animated_gif_is_a_film_over_white(translate, identity, tmp_path):
    run_ffmpeg("-version")
    pictures = np.zeros((4, 33, 61, 4), np.uint8)
    for picture, colour in zip(pictures, ((255, 0, 0, 255), (0, 0, 255, 255)) * 2, strict=True):
        picture[:, 30:] = colour
    first, *others = map(Image.fromarray, pictures)
    first.save(tmp_path / "film.gif", save_all=True, append_images=others, duration=100, disposal=2)
    assert translate(tmp_path / "film.gif", tmp_path / "out.mp4")[0] == 0
    header = film.probe(tmp_path / "out.mp4")
    assert header[1:4] == (34, 62, 10)  # one row and one column more, since H.264 needs even sides
    shown = list(film.frames(header))
    assert_alike([frame[:, :26] for frame in shown], [np.full((34, 26, 3), 255)] * 4, most=4)
    assert_alike([frame[:, 34:] for frame in shown], [np.full((34, 28, 3), colour) for colour in ((255, 0, 0), (0, 0, 255)) * 2], most=4)


@pytest.mark.parametrize("run", ["bicycle", "pix2pix"])
def test_a_film_equals_its_frames_translated_with_sync(translate, source, tmp_path, run):
    for index, frame in enumerate(film.frames(film.probe(source))):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    kept, encode = [], video.encode

    def keep(path, frames, **options):
        encode(path, (kept.append(frame) or frame for frame in frames), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "encode", keep)
        assert translate(source, tmp_path / "out.mp4", "--seed=7", run=run)[0] == 0
    status, _, err = translate(tmp_path / "frames", tmp_path / "images", "--seed=7", "--sync", run=run)
    assert status == 0, err
    for index, frame in enumerate(kept):
        np.testing.assert_array_equal(frame, Image.open(tmp_path / "images" / f"{index}.png"))
    shown = film.frames(film.probe(tmp_path / "out.mp4"))
    assert_alike([halved(frame) for frame in shown], [halved(frame) for frame in kept], most=8)  # the codec stores colours at half size


def test_a_style_image_and_a_size(translate, source, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "style.png")
    outputs = []
    for number, options in enumerate((["--seed=1"], [f"--style={tmp_path / 'style.png'}"])):
        assert translate(source, tmp_path / f"{number}.mp4", "--size=128", *options)[0] == 0
        outputs.append(list(film.frames(film.probe(tmp_path / f"{number}.mp4"))))
    assert {frame.shape for frame in itertools.chain(*outputs)} == {(128, 128, 3)}
    assert not np.array_equal(outputs[0][0], outputs[1][0])


def test_sync_gives_all_images_the_same_dropout(translate, tmp_path):
    (tmp_path / "twins").mkdir()
    for name in "ab":
        Image.fromarray(smooth(1)[0]).save(tmp_path / "twins" / f"{name}.png")
    for options, same in (["--sync"], True), ([], False):
        output = tmp_path / str(same)
        assert translate(tmp_path / "twins", output, *options, run="pix2pix")[0] == 0
        images = [np.asarray(Image.open(output / f"{name}.png")) for name in "ab"]
        assert np.array_equal(*images) is same


def test_a_stopped_or_failed_film_leaves_nothing(translate, source, tmp_path, monkeypatch):
    def stopped(networks, state, mode, frames, grid, **options):
        yield from itertools.islice(frames, 3)
        raise KeyboardInterrupt

    cut = tmp_path / "cut.mp4"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "film.mp4"
    status, out, err = translate(cut, output)
    assert (status, out) == (1, "") and re.fullmatch(rf"error: {re.escape(str(cut))}: is damaged after frame \d+ \(.+\)\n", err)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "stream", stopped)
        assert translate(source, output) == (1, "", "error: interrupted\n")
    monkeypatch.setattr(video, "FPS", "no rate")
    monkeypatch.setattr(translation, "stream", lambda networks, state, mode, frames, grid, **options: frames)
    monkeypatch.setattr(film, "_encode", lambda path, header, outputs: video.encode(path, outputs, options=["-no_such_option", "1"]))
    status, _, err = translate(source, output)
    assert status == 1 and err.startswith("error: film.mp4 was not encoded: ") and err.count("\n") == 1
    assert not list(output.parent.iterdir())


def test_options_that_films_do_not_have(translate, source, tmp_path):
    output = tmp_path / "out.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "probe", None)  # all of these are refused before the film is opened
        for path, options, message in (
            (output, ["--samples=3"], "--samples is 3: a film is translated once: leave it out, and choose another --seed instead"),
            (output, ["--samples=3", "--interpolate=gif"], "--interpolate does not apply to a film: leave it out"),
            (output, ["--pairs"], "--pairs does not apply to a film: leave it out"),
            (tmp_path / "OUT", [], f"--output is {tmp_path / 'OUT'}: the input is a film: must be a file name that ends in .mp4"),
            (tmp_path / "a.webm", [], f"--output is {tmp_path / 'a.webm'}: the input is a film: must be a file name that ends in .mp4"),
            (source, [], f"--output: {source} is the input: name another file"),
        ):
            assert translate(source, path, *options) == (2, "", f"error: {message}\n")
    assert translate(source, output, "--tile=63")[0] == 2
    message = f"error: {source}: is 64x48: 3072 pixels, more than max_pixels=3071 allows\n"
    assert translate(source, output, "--max_pixels=3071") == (1, "", message)
    assert not output.exists()


def test_films_need_an_extra(translate, tmp_path, monkeypatch):
    (tmp_path / "film.mp4").touch()
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    answer = translate(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert answer == (1, "", 'error: this needs imageio_ffmpeg: pip install "i2i-jax[video]"\n')
