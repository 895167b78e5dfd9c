"""The trained models of the package: their files and cards, and their names wherever a run is taken."""

import importlib
import json
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
from PIL import Image

import i2i_jax
import runs
from i2i_jax import build, configs, pretrained
from i2i_jax.__main__ import COMMANDS
from i2i_jax.config import HIGHER_IS_BETTER, ConfigError, flatten, override
from i2i_jax.data import facade_layouts, shapes


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    pretrained._say_local.cache_clear()


def test_each_model_has_a_file_and_a_card():
    names = {path.name for path in pretrained.FOLDER.iterdir() if path.suffix not in (".py", "") and path.is_file()}
    assert names == {f"{name}{suffix}" for name in pretrained.NAMES for suffix in (".safetensors", ".md")}
    assert sum(pretrained.file(name).stat().st_size for name in pretrained.NAMES) <= 20_000_000
    assert "Tyleček" in pretrained.card("facades") and "No photo" in pretrained.card("facades")


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_a_card_says_how_the_model_was_made_and_measured(name):
    card = pretrained.card(name)
    assert re.findall("^#+ (.*)", card, re.MULTILINE) == [name, "Data", "Command", "Figures", "Limits"]
    code = "\n".join(re.findall("^```\n(.*?)^```", card, re.DOTALL | re.MULTILINE)).replace("\\\n", "")
    assert [line.split()[1] for line in code.splitlines() if line] == ["train", "pack", "evaluate"]
    assert card.count("\n- ") >= 3, "limits"
    assert pretrained.description(name).endswith(".")
    figures = re.findall(r"^\| `(\w+)`", card.partition("## Figures")[2], re.MULTILINE)
    assert len(figures) >= 5 and set(figures) <= HIGHER_IS_BETTER.keys()


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_the_packed_config_is_that_of_the_cards_command(name):
    [command] = re.findall(r"^i2i (train .*?)\ni2i pack", pretrained.card(name), re.DOTALL | re.MULTILINE)
    options = dict(word[2:].split("=", 1) for word in shlex.split(command.replace("\\\n", ""))[1:])
    of_this_machine = {"data.name", "data.path", "data.val_fraction"}
    expected = flatten(configs.read(options["config"]))
    expected |= {key.removeprefix("config."): value for key, value in options.items() if key.startswith("config.")}
    packed = flatten(build.read_config(name))
    shown = {key for key in expected if key.startswith(("data", "model", "weights", "optimizer", "train.steps", "objective"))}
    assert {key: str(packed[key]) for key in shown - of_this_machine} == {key: str(expected[key]) for key in shown - of_this_machine}
    assert packed["data.name"] == name


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_parameters_are_stored_in_bfloat16_and_loaded_in_float32(name):
    with safetensors.safe_open(pretrained.file(name), "numpy") as file:
        kinds = {key.split(".")[0]: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        assert json.loads(file.metadata()["card"])["model"] == "bicycle_gan"
    assert kinds == {"params": "BF16", "step": "I32"}
    _, state = build.load(name)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert set(state.params) == {"generator", "encoder"}


def test_an_unknown_name(command):
    with pytest.raises(ConfigError, match=r"^facade is not a run: it has no config.json, and is not a model of the package: these are "):
        i2i_jax.load("facade")
    status, out, err = command("translate", "--run=facade", "--input=x.png", "--output=out")
    assert (status, out) == (2, "")
    models = "these are facades, shapes (did you mean 'facades'?)"
    assert err == f"error: facade is not a run: it has no config.json, and is not a model of the package: {models}\n"
    with pytest.raises(ConfigError, match="runs/facade is not a run: it has no config.json$"):
        build.read_config("runs/facade")


def test_a_local_run_of_the_same_name_is_used(capsys):
    Path("facades/train").mkdir(parents=True)  # such as the data set's folder
    assert build.read_config("facades").model.generator == "unet_128"
    assert capsys.readouterr().out == ""
    Path("facades/config.json").write_text('{"objective": "pix2pix"}')
    for _ in range(2):
        assert build.read_config("facades").objective == "pix2pix"
    local = Path("facades").absolute()
    assert capsys.readouterr().out == f"facades: using the local run {local}, not the model of this name in the package\n"


def test_i2i_models(command):
    status, out, err = command("models")
    assert (status, err) == (0, "")
    assert out.startswith("facades: bicycle_gan, 128 px, 12.4 MB\n  Label maps of building facades to photos")
    assert "\nshapes: bicycle_gan, 64 px, 2.8 MB\n" in out
    assert command("models", "--card=facades") == (0, pretrained.card("facades"), "")
    status, _, err = command("models", "--card=facade")
    assert (status, err.count("\n")) == (2, 1) and "facades|shapes" in err


@pytest.mark.slow
def test_facades_have_many_answers():
    model = i2i_jax.load("facades")
    outputs = model(facade_layouts.layout(0)[::2, ::2], n=3, seed=0)
    assert (outputs.shape, outputs.dtype) == ((3, 128, 128, 3), np.uint8)
    walls = outputs.mean((1, 2))
    assert all(np.abs(walls[i] - walls[j]).max() > 5 for i, j in ((0, 1), (1, 2), (0, 2)))
    assert model.encode(outputs).shape == (3, 8)


@pytest.fixture
def pairs():
    """A folder of two side-by-side pairs of shapes."""
    for index in range(2):
        outline, material = shapes.example("test", index)
        pair = np.hstack([np.stack([outline] * 3, -1), shapes.render(shapes.coverage(outline), material)])
        Path("pairs/test").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pair).save(f"pairs/test/{index}.png")
        Path("inputs").mkdir(exist_ok=True)
        Image.fromarray(outline).convert("RGB").save(f"inputs/{index}.png")
    return Path("pairs")


# A call of each command that takes --run, and what it writes.
CALLS = {
    "translate": (["--input=inputs", "--output=out"], "out/index.html"),
    "evaluate": (["--data=pairs", "--metrics=l1", "--samples=2", "--output=out"], "out/evaluation.json"),
    "export": (["--out=shapes.stablehlo"], "shapes.stablehlo"),
    "pack": (["--out=packed.safetensors", "--dtype=bfloat16"], "packed.safetensors"),
    "convert": (["--to=torch", "--out=torch"], "torch/latest_net_G.pth"),
    "push": ([], ""),  # through model_card.pack, see below
    "studio": ([], ""),  # session.opened, see below
}


def test_the_calls_are_of_all_commands_that_take_a_run():
    sources = {name: Path(importlib.util.find_spec(module).origin).read_text() for name, (module, _) in COMMANDS.items()}
    assert {name for name, source in sources.items() if re.search(r'DEFINE_\w+\(\s*"run"', source)} == CALLS.keys()
    assert all("app.RUN" in sources[name] for name in CALLS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (_, written) in CALLS.items() if written])
def test_commands_take_the_name_of_a_model(name, pairs, command):
    if name == "convert":
        pytest.importorskip("torch", reason="writes PyTorch files")
    options, written = CALLS[name]
    status, _, err = command(name, "--run=shapes", *options)
    assert status == 0, err
    assert Path(written).is_file()
    if name == "pack":
        files = [safetensors.safe_open(path, "numpy") for path in (written, pretrained.file("shapes"))]
        ours, theirs = ({key: file.get_tensor(key) for key in file.keys()} for file in files)  # noqa: SIM118
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_a_page_is_drawn_on_and_a_training_starts_with_a_model(shapes_dir):
    pytest.importorskip("i2i_jax.studio.session")
    from i2i_jax.studio import session

    z = np.zeros(2, np.float32)
    assert session.translated(session.opened("shapes"), np.full((64, 64, 3), 255, np.uint8), z).shape == (64, 64, 3)
    assert len(session.settings(build.read_config("facades"))["brushes"]) == 12
    config = override(runs.get_config("finetune", "shapes"), {"data.prepared_dir": str(shapes_dir)})
    abstract = jax.eval_shape(lambda key: build.game(config).init(key, build.example_batch(config)), jax.random.key(0))
    fresh = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), abstract)
    start, packed = build.start_from(config, fresh), build.load("shapes")[1]
    jax.tree.map(np.testing.assert_array_equal, start.params["generator"], packed.params["generator"])
