"""The evaluate command: what it prints and writes for a run and for folders, and its errors."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i_jax import build

pytestmark = pytest.mark.slow

CAFFE = "squeezenet_caffe"


def figures(out: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(\w+) +([\d.]+)(?:  ± [\d.]+)?$", out, re.MULTILINE)}


def strict(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=lambda constant: pytest.fail(constant))


def save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def noise(width: int = 32, height: int = 32, *, seed: int = 0, grey: bool = False) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *(() if grey else (3,))), np.uint8)


@pytest.fixture
def copied(trained, tmp_path):
    """A function that copies a trained run, so that the test may write into it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(trained(name), tmp_path / name))

    return copy


def test_of_a_run(command, copied):
    run = copied("bicycle")
    answers = [command("evaluate", f"--run={run}", "--samples=3", "--inputs=3", f"--batch_size={size}") for size in (8, 16)]
    (status, out, err), (_, again, _) = answers
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "step 2, split test, inputs 3, samples 3, size 64, seed 0"
    assert figures(out) == pytest.approx(figures(again), abs=2e-4)
    written = strict(run / "evaluation" / "00000002.json")
    assert {name: written[name] for name in ("step", "split", "inputs", "samples", "size", "seed")} == {
        "step": 2, "split": "test", "inputs": 3, "samples": 3, "size": 64, "seed": 0,
    }  # fmt: skip
    assert written["metrics"] == ["l1", "psnr", "ssim", "l1_encoded", "latent", "modes"]
    assert len(written["figures"].pop("kl_by_dimension")) == 2
    assert figures(again) == {name: float(f"{value:.4f}") for name, value in written["figures"].items()}
    assert {"l1", "psnr", "ssim", "l1_encoded", "latent_consistency", "modes"} <= set(written["standard_errors"]) <= set(written["figures"])
    assert (written["notes"], written["weights"]) == ([], {})
    assert {"jax", "flax", "numpy"} <= set(written["versions"])
    for sheet in ("first", "best", "worst"):
        assert f'src="00000002/{sheet}.png"' in (run / "evaluation" / "00000002.html").read_text()
        Image.open(run / "evaluation" / "00000002" / f"{sheet}.png").load()
    assert 'href="evaluation/00000002.html"' in (run / "index.html").read_text()


def test_the_figures_are_those_of_training(command, copied):
    """For the same checkpoint, pairs and samples."""
    run = copied("bicycle")
    assert command("evaluate", f"--run={run}", "--split=val", "--metrics=l1,ssim,l1_encoded")[0] == 0
    evaluated = strict(run / "evaluation" / "00000002_val.json")["figures"]
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(evaluated) == {"l1", "ssim", "l1_encoded"}
    for name, value in evaluated.items():
        assert value == pytest.approx(row[f"eval/{name}"], abs=1e-5)


def test_another_question_is_answered_beside_the_first(command, copied):
    """Repeating an evaluation replaces its files; another one gets a number, and so does one whose place holds a broken file."""
    run = copied("segmenter")
    folder = run / "evaluation"
    folder.mkdir()
    (folder / "00000002.json").write_text("{")
    for options in (["--metrics=l1"], ["--metrics=psnr"], ["--metrics=l1", "--seed=1"], ["--metrics=l1"]):
        assert command("evaluate", f"--run={run}", "--inputs=1", *options)[0] == 0
    answers = {path.stem: strict(path) for path in folder.glob("*_*.json")}
    assert {name: (list(answer["figures"]), answer["seed"]) for name, answer in answers.items()} == {
        "00000002_2": (["l1"], 0), "00000002_3": (["psnr"], 0), "00000002_4": (["l1"], 1),
    }  # fmt: skip
    assert (folder / "00000002.json").read_text() == "{"
    assert 'href="evaluation/00000002_4.html"' in (run / "index.html").read_text()


def test_a_run_measured_by_its_saved_images(command, copied, tmp_path):
    """Without z and dropout, which `translate` seeds by file name and `evaluate` by index."""
    run = copied("segmenter")
    pairs = build.pairs(build.read_config(run), "test")
    for place in range(3):
        for folder, image in zip(("in", "real"), pairs[place], strict=True):
            save(tmp_path / folder, f"{place:02d}", image)
    assert command("translate", f"--run={run}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'fake'}")[0] == 0
    assert command("evaluate", f"--run={run}", "--inputs=3")[0] == 0
    folders = f"--real={tmp_path / 'real'}", f"--fake={tmp_path / 'fake'}"
    status, out, err = command("evaluate", *folders, f"--output={tmp_path / 'out'}")
    assert (status, err) == (0, "")
    of_run, of_files = strict(run / "evaluation" / "00000002.json"), strict(tmp_path / "out" / "evaluation.json")
    assert of_files["figures"].keys() == {"l1", "psnr", "ssim"} <= of_run["figures"].keys()
    for name, value in of_files["figures"].items():  # a pixel may round either way
        assert value == pytest.approx(of_run["figures"][name], rel=1e-4), name
    assert "Evaluation · fake" in (tmp_path / "out" / "evaluation.html").read_text()


def test_a_published_models_images(command, shared):
    """L1, PSNR and SSIM of the published pix2pix model on facades equal those computed by independent code."""
    fake = shared / "data" / "facades_reference"
    if not fake.is_dir():
        pytest.skip(f"no outputs of the published model at {fake}")
    real = shared / "data" / "facades" / "test"
    status, out, err = command("evaluate", f"--real={real}", f"--fake={fake}", "--direction=BtoA")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"real {real}, fake {fake}, direction BtoA, inputs 50, samples 1"
    assert figures(out) == {"l1": 0.1795, "psnr": pytest.approx(12.7015, abs=2e-4), "ssim": 0.2329}


def test_equal_images_are_infinitely_alike(command, tmp_path):
    """Infinity is written as valid JSON; the folder holds images of several sizes."""
    save(save(tmp_path / "real", "a", noise()).parent / "real", "b", noise(20, 10, seed=1))
    status, out, err = command("evaluate", f"--real={tmp_path / 'real'}", f"--fake={tmp_path / 'real'}", f"--output={tmp_path / 'out'}")
    assert (status, err) == (0, "")
    assert "psnr                     inf\n" in out
    written = strict(tmp_path / "out" / "evaluation.json")
    assert written["figures"] == {"l1": 0, "psnr": "Infinity", "ssim": pytest.approx(1)}
    assert set(written["standard_errors"]) == {"l1", "ssim"}
    assert "Infinity" in (tmp_path / "out" / "evaluation.html").read_text()


def test_sets_need_no_names(command, shared, tmp_path):
    """Nor equal numbers of images; --direction selects the half of side-by-side images."""
    if not (shared / "weights" / "squeezenet1_1_caffe.npz").exists():
        pytest.skip(f"no weights in {shared}")
    whole, halves = ([noise(64, seed=i) for i in range(4)] for _ in range(2))
    for i, pixels in enumerate(whole):
        save(tmp_path / "whole", f"w{i}", pixels)
        save(tmp_path / "half", f"h{i}", halves[i][:, :32])
    for i in range(3):
        save(tmp_path / "fake", f"f{i}", noise(seed=9 + i))
    distances = []
    for real, *options in (("half",), ("whole", "--direction=BtoA"), ("whole", "--direction=AtoB")):
        folders = f"--real={tmp_path / real}", f"--fake={tmp_path / 'fake'}", f"--weights={shared / 'weights'}"
        status, out, err = command("evaluate", *folders, f"--metrics=kernel_{CAFFE},frechet_{CAFFE}", *options)
        assert (status, err) == (0, "")
        assert out.splitlines()[0].endswith("reals 4, fakes 3")
        distances.append(figures(out)[f"frechet_{CAFFE}"])
    assert distances[0] == pytest.approx(distances[1], rel=1e-4) != distances[2]
    assert "note: 3 images, 512 features: the covariance is singular" in out


def assert_refused(answer: tuple[int, str, str], status: int, message: str):
    exit_status, _, err = answer
    assert (exit_status, err.count("\n")) == (status, 1), err
    assert err.startswith("error: "), err
    assert re.search(message, err), err


def test_bad_folders(command, trained, tmp_path):
    """Each gives an error of one line, and nothing is written."""
    real = save(tmp_path / "real", "a", noise())
    save(real, "b", noise())
    save(tmp_path / "pair", "a", noise(64))
    bad = {
        "empty": None, "named": ("c", noise()), "uneven": ("a_1", noise()), "wide": ("a", noise(40)), "grey": ("a", noise(grey=True)),
        "small": ("a", noise(12, 12)), "tiny": ("a", noise(6, 6)), "one": ("a", noise()),
    }  # fmt: skip
    for folder, image in bad.items():
        save(tmp_path / folder, *image) if image else (tmp_path / folder).mkdir()
    for name in ("a_2", "b_1"):
        save(tmp_path / "uneven", name, noise())
    np.savez(tmp_path / "empty" / "squeezenet1_1_caffe.npz", x=np.zeros(3))

    def folders(real: str, fake: str, metrics: str = "") -> list[str]:
        return [f"--real={tmp_path / real}", f"--fake={tmp_path / fake}", *([f"--metrics={metrics}"] if metrics else [])]

    run, segmenter = "--run=any", f"--segmenter={trained('segmenter')}"
    for options, status, message in (
        ([], 2, "give --run=RUN, or --real=DIR and --fake=DIR"),
        ([run, *folders("real", "one")], 2, "give --run=RUN, or"),
        (folders("real", "one")[:1], 2, "give --run=RUN, or"),
        (folders("real", "one")[1:], 2, "give --run=RUN, or"),
        ([run, *folders("real", "one")[1:]], 2, "give --run=RUN, or"),
        ([*folders("real", "one"), "--samples=2"], 2, "--samples does not apply together with --real and --fake"),
        ([run], 2, "any is not a run: it has no config.json"),
        ([run, "--max_pixels=5"], 2, "--max_pixels does not apply together with --run"),
        (folders("none", "one"), 1, f"{tmp_path}/none: no such folder"),
        (folders("real", "empty"), 1, f"{tmp_path}/empty: has no image files"),
        (folders("real", "named"), 1, f"named/c.png: no image in {tmp_path}/real has its name"),
        (folders("real", "uneven"), 1, "2 images of 'a' but 1 of 'b'"),
        (folders("real", "wide"), 1, "a.png is 32x32, colour but .*wide/a.png is 40x32, colour: must be the same"),
        (folders("real", "grey"), 1, "grey/a.png is 32x32, grey: must be the same"),
        (folders("pair", "one"), 1, "pair/a.png is 64x32, .* say which half is real, --direction=AtoB"),
        ([*folders("real", "one"), "--direction=AtoB"], 1, "half of .*real/a.png is 16x32"),
        ([*folders("real", "one"), "--direction=left"], 2, "direction"),
        (folders("tiny", "tiny"), 1, "images are 6 x 6: SSIM needs at least 7 x 7"),
        (folders("real", "one", "l1,sim"), 2, r"unknown metric 'sim': one of l1, .*did you mean 'ssim'"),
        (folders("real", "one", "latent"), 2, "--metrics: 'latent' needs the z of each example, which a folder of images does not have"),
        (folders("real", "one", "l1_encoded"), 2, "'l1_encoded' needs the encoded of each example"),
        (folders("real", "one", "modes"), 2, "'modes' can be measured for runs only"),
        (folders("real", "one", "segmentation"), 2, "metric 'segmentation' needs eval.segmenter"),
        ([*folders("real", "one", "segmentation"), segmenter], 2, "needs the input of each example.*side-by-side .* --direction"),
        ([*folders("real", "one", "segmentation"), f"--segmenter={real}"], 2, "real is not a run"),
        ([*folders("real", "one", CAFFE), f"--weights={real}"], 1, "no squeezenet1_1_caffe.npz in this folder of weights"),
        ([*folders("real", "one", CAFFE), f"--weights={tmp_path / 'empty'}"], 1, "not the weights of this network"),
        ([*folders("real", "one", "fid,kid"), f"--weights={real}"], 1, "no pt_inception-2015-12-05-6726825d.pth or"),
        ([*folders("real", "one", "lpips_v0.1_alex"), f"--weights={real}"], 1, "no alexnet-owt-7be5be79.pth or"),
        ([*folders("real", "one"), "--batch_size=0"], 2, "batch_size"),
    ):
        assert_refused(command("evaluate", f"--output={tmp_path / 'out'}", *options), status, message)
        assert not (tmp_path / "out").exists()


def test_what_pretrained_networks_cannot_measure(command, shared, tmp_path):
    weights = shared / "weights"
    if not (weights / "squeezenet1_1_caffe.npz").exists():
        pytest.skip(f"no weights in {shared}")
    real, small, pair = (save(tmp_path / name, "a", noise(*size)) for name, size in
                         {"real": (32, 32), "small": (16, 16), "pair": (64, 32)}.items())  # fmt: skip
    for real_folder, fake_folder, metric, message in (
        (real, real, f"frechet_{CAFFE}", "sample has 1 images: at least 2 are needed"),
        (real, real, f"kernel_{CAFFE}", "sample has 1 images: at least 3 are needed"),
        (real, real, f"diversity_{CAFFE}", "diversity needs at least 2 samples an input: found 1"),
        (real, real, f"precision_recall_{CAFFE}", "sample has 1 images: at least 8 are needed"),
        (pair, real, f"frechet_{CAFFE}", "pair/a.png is 64x32, .* say which half is real"),
    ):
        folders = f"--real={real_folder}", f"--fake={fake_folder}", f"--output={tmp_path / 'out'}"
        options = *folders, f"--metrics={metric}", f"--weights={weights}"
        assert_refused(command("evaluate", *options), 1, message)
    assert not (tmp_path / "out").exists()


def test_bad_options_of_a_run(command, copied, trained):
    run = copied("pix2pix")
    other = run.parent / "other"
    other.mkdir()
    (other / "config.json").write_text((run / "config.json").read_text().replace('"shapes"', '"facades"'))
    bicycle = f"--segmenter={trained('bicycle')}"
    for options, status, message in (
        ([f"--run={run.parent}"], 2, "is not a run: it has no config.json"),
        ([f"--run={other}", "--metrics=modes"], 2, "metric 'modes' can be measured on data.name 'shapes'"),
        ([f"--run={run}", "--metrics=latent"], 2, "metric 'latent': pix2pix has no encoder"),
        ([f"--run={run}", "--metrics=segmentation", bicycle], 2, "one of --config=segmenter is needed"),
        ([f"--run={run}", f"--metrics=diversity_{CAFFE}", "--samples=1"], 2, "eval.samples must be at least 2"),
        ([f"--run={run}", "--step=7"], 1, "no checkpoint 7: there is 2"),
        ([f"--run={run}", "--step=newest"], 2, "--step is 'newest': must be a number or best"),
        ([f"--run={run}", "--split=all"], 2, "split"),
        ([f"--run={run}", "--samples=0"], 2, "samples"),
        ([f"--run={run}", "--input=3"], 2, "input"),
    ):
        assert_refused(command("evaluate", *options), status, message)
    assert not (run / "evaluation").exists()
