"""A packed model equals its run; any other file gives a one-line error."""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image

import damage
import runs
from i2i_jax import build
from i2i_jax.config import Config, flatten, from_json, override, to_json
from i2i_jax.storage import packed
from i2i_jax.storage.packed import PackedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    """A packed BicycleGAN."""
    from i2i_jax.interop import model_card

    out = tmp_path_factory.mktemp("packed") / "bicycle.safetensors"
    model_card.pack(trained("bicycle"), out)
    return out


def parts(file):
    """The arrays and the metadata of a packed file."""
    with safetensors.safe_open(file, "numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def test_a_packed_model_equals_its_run(trained, file, tmp_path, command):
    """It holds the generator and encoder, bit for bit, and the config without the paths of this machine."""
    (game, theirs), (same_game, ours) = (build.load(run) for run in (trained("bicycle"), file))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert (set(ours.params), int(ours.step)) == ({"generator", "encoder"}, 2)
    assert set(build.load(file, networks=None)[1].params) == {"generator", "encoder"}
    config = build.read_config(trained("bicycle"))
    assert config.data.prepared_dir
    ours, theirs = (flatten(build.read_config(run)) for run in (file, trained("bicycle")))
    assert {name for name in theirs if ours[name] != theirs[name]} <= {
        "data.prepared_dir", "train.log_every", "train.sample_every", "train.checkpoint_every", "train.eval_every", "train.samples",
    }  # fmt: skip
    assert str(trained("bicycle")) not in json.dumps(parts(file)[1])
    Image.new("RGB", (70, 64), (200, 30, 100)).save(tmp_path / "a.png")
    outputs = []
    for run in (trained("bicycle"), file):
        out = tmp_path / run.name
        assert command("translate", f"--run={run}", f"--input={tmp_path / 'a.png'}", f"--output={out}")[0] == 0
        outputs.append((out / "a.png").read_bytes())
    assert outputs[0] == outputs[1]


PRIVATE = {
    "data.path", "data.prepared_dir", "data.val_fraction", "data.max_pairs", "data.max_pixels", "data.skip_bad", "data.cache_gb",
    "data.disk_cache_gb",
    "train.log_every", "train.sample_every", "train.checkpoint_every", "train.eval_every", "train.keep", "train.samples", "train.seed",
    "train.start_from", "train.adapt_channels", "train.wandb", "train.parallel", "train.profile", "train.debug_nans",
    "eval.batch_size", "eval.pretrained_dir", "eval.segmenter",
}  # fmt: skip


def test_every_option_is_published_or_private():
    """A new option must be added to one of the two lists."""
    published = {name for name in flatten(Config()) if packed._is_published(name)}
    assert published | PRIVATE == set(flatten(Config()))
    assert not published & PRIVATE
    assert {name for name, value in flatten(Config()).items() if value == ""} <= PRIVATE | {"eval.metrics", "data.input_labels"}, (
        "free text, which a user writes, must stay private; of data.input_labels, colours without names are packed (test_labels.py)"
    )


def test_nothing_private_leaves_with_a_model(trained, tmp_path):
    """Private options are set to recognisable values, none of which is in the file."""
    from i2i_jax.interop import model_card

    config = build.read_config(trained("bicycle"))
    secrets = {name: f"secret-{name}" for name, value in flatten(config).items() if name in PRIVATE and isinstance(value, str)}
    run = tmp_path / "run"
    run.symlink_to(trained("bicycle"))
    game, state = build.load(run)
    secret_config = override(config, secrets | {"train.seed": 1234567, "data.val_fraction": 0.3141})
    content = packed.to_bytes(secret_config, model_card.card(config, game.networks, state), state)
    for secret in (*secrets.values(), "1234567", "0.3141"):
        assert secret.encode() not in content, secret


def test_the_card(file):
    assert json.loads(parts(file)[1]["card"]) == {
        "model": "bicycle_gan",
        "step": 2,
        "input": {"channels": 3, "range": [-1, 1]},
        "output": {"channels": 3, "range": [-1, 1]},
        "size": {"multiple_of": 64, "trained_at": 64},
        "z": {"numbers": 2, "drawn_from": "normal"},
        "mode": {"norm": "instance", "statistics": "of each image", "dropout": False},
    }


def test_batch_norm_and_dropout_are_packed_too(trained, tmp_path, command):
    out = tmp_path / "folder" / "pix2pix.safetensors"
    status, stdout, err = command("pack", f"--run={trained('pix2pix')}", f"--out={out}", "--step=2")
    assert (status, err) == (0, "") and stdout.startswith(f"packed into {out}: ")
    (_, theirs), (_, ours) = (build.load(run) for run in (trained("pix2pix"), out))
    assert ours.batch_stats["generator"]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    card = json.loads(parts(out)[1]["card"])
    assert card["z"] is None and card["mode"] == {"norm": "batch", "statistics": "of each image", "dropout": True}
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_fine_tuning_starts_with_a_packed_model(file, shapes_dir):
    config = override(runs.get_config("finetune", str(file)), {"data.prepared_dir": str(shapes_dir)})
    shapes = jax.eval_shape(lambda key: build.game(config).init(key, build.example_batch(config)), jax.random.key(0))
    state = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)
    start, packed_state = build.start_from(config, state), build.load(file)[1]
    for role in ("generator", "encoder"):
        jax.tree.map(np.testing.assert_array_equal, start.params[role], packed_state.params[role])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(start.params["discriminator"]))


def assert_same_packed(ours, theirs):
    """safetensors writes metadata in any order, so the bytes may differ."""
    (arrays, metadata), (other_arrays, other_metadata) = parts(ours), parts(theirs)
    assert metadata == other_metadata
    jax.tree.map(np.testing.assert_array_equal, arrays, other_arrays)


def test_bfloat16_halves_the_file_and_is_loaded_as_float32(file, tmp_path, command):
    out = tmp_path / "half.safetensors"
    status, _, err = command("pack", f"--run={file}", f"--out={out}", "--dtype=bfloat16")
    assert (status, err) == (0, "")
    whole, half = parts(file)[0], parts(out)[0]
    assert sum(array.nbytes for array in half.values()) < 0.51 * sum(array.nbytes for array in whole.values())
    (_, theirs), (_, ours) = build.load(file), build.load(out)
    assert int(ours.step) == int(theirs.step)

    def is_rounded(mine, exact):
        assert mine.dtype == exact.dtype == np.float32
        np.testing.assert_array_equal(mine, np.asarray(exact).astype(jax.numpy.bfloat16).astype(np.float32))

    jax.tree.map(is_rounded, ours.params, theirs.params)
    again = tmp_path / "again.safetensors"
    assert command("pack", f"--run={out}", f"--out={again}", "--dtype=bfloat16")[0] == 0
    assert_same_packed(again, out)
    status, _, err = command("pack", f"--run={file}", f"--out={out}", "--dtype=float16")
    assert (status, err.count("\n")) == (2, 1) and "float32|bfloat16" in err


KERNEL = "params.generator.down_0.kernel"
CONFIGS = {
    "{": "not JSON",
    "[]": "must be an object",
    "[" * 100_000: "not JSON",
    '{"model": {"width": "wide"}}': "model.width is 'wide': must be int",
    '{"model": {"generator": "unet_7"}}': "unknown model.generator 'unet_7'",
    '{"wide": 1}': "unknown option wide",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, metadata: arrays.pop(KERNEL), f"has no {KERNEL}: it is of another model"),
        (
            lambda arrays, metadata: arrays.update({KERNEL: arrays[KERNEL][:1]}),
            rf"{KERNEL} is float32\[1, 4, 5, 2\], that of its config is float32\[4, 4, 5, 2\]$",
        ),
        (lambda arrays, metadata: arrays.update({KERNEL: arrays[KERNEL].astype(np.float16)}), f"{KERNEL} is void"),
        (lambda arrays, metadata: metadata.clear(), "its format is None, not 'i2i_jax 1'"),
        (lambda arrays, metadata: metadata.update(format="pt"), "its format is 'pt'"),
        (lambda arrays, metadata: metadata.pop("config"), "its config"),
        *(
            (lambda arrays, metadata, text=text: metadata.update(config=text), f"its config: .*{message}")
            for text, message in CONFIGS.items()
        ),
    ],
)
def test_a_file_of_something_else(change, message, file, tmp_path):
    arrays, metadata = parts(file)
    change(arrays, metadata)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(safetensors.numpy.save(arrays, metadata))
    with pytest.raises(PackedError, match=f"^{bad}: .*{message}") as raised:
        build.load(bad)
    assert "\n" not in str(raised.value)


def test_a_config_of_another_size_takes_no_memory(file, tmp_path):
    """Only shapes are compared, whatever size the config names."""
    arrays, metadata = parts(file)
    for name in ("model.width", "model.latent_dim", "data.input_channels"):
        changed = override(from_json(metadata["config"]), {name: 10**9})
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(safetensors.numpy.save(arrays, metadata | {"config": to_json(changed)}))
        with pytest.raises(PackedError, match=f"^{bad}: .*that of its config is"):
            build.load(bad)


def test_wrong_usage(trained, file, tmp_path, command):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    run, out = f"--run={trained('bicycle')}", f"--out={tmp_path / 'out.safetensors'}"
    for name, options, expected, message in (
        ("pack", [run], 2, "--out"),
        ("pack", [run, f"--out={tmp_path}"], 2, f"--out: {tmp_path} is a folder: name a file in it"),
        ("pack", [f"--run={tmp_path}", out], 2, f"{tmp_path} is not a run: it has no config.json"),
        ("pack", [run, out, "--step=7"], 1, "no checkpoint 7"),
        ("pack", [f"--run={file}", out, "--step=2"], 2, "is a packed run, which has only one step: leave out the step 2"),
        ("pack", [f"--run={cut}", out], 1, f"{cut}: is no model that `i2i_jax pack` wrote, or is damaged"),
        ("evaluate", [f"--run={file}"], 2, f"--run: {file} is not a folder, so the results cannot be written into it: give --output=DIR"),
    ):
        status, _, err = command(name, *options)
        assert (status, err.count("\n")) == (expected, 1), err
        assert message in err, err
    assert [path.name for path in tmp_path.iterdir()] == [cut.name]


def test_two_hundred_damaged_files(file, tmp_path):
    """Each raises a one-line error that names the file, or can still be loaded."""
    whole, rng, bad, loaded = file.read_bytes(), np.random.default_rng(0), tmp_path / "bad.safetensors", 0
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(200):
        bad.write_bytes(damage.torn(whole, rng, header=header))
        try:
            build.load(bad)
        except PackedError as error:
            assert str(error).startswith(f"{bad}: ") and "\n" not in str(error), error
        else:
            loaded += 1
    assert 0 < loaded < 100
    assert packed.networks(file) == {"generator", "encoder"}
