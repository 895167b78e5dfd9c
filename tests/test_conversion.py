"""Conversion of real PyTorch files, with networks of the public projects, to runs and back."""

import contextlib
import io
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import damage
import runs
import test_golden as golden
from i2i_jax import build, presets
from i2i_jax.config import ConfigError, flatten, override, to_json
from i2i_jax.devices import parallel
from i2i_jax.interop import conversion
from i2i_jax.interop import torch as layout
from i2i_jax.interop.conversion import ConversionError
from i2i_jax.models import ConvEncoder, MultiScale, PatchGAN, ResNet, ResNetEncoder, UNet
from i2i_jax.storage.checkpoints import Checkpoints
from i2i_jax.storage.torch_files import TorchFileError
from i2i_jax.training.pieces import newest_state

torch = pytest.importorskip("torch", reason="writes PyTorch's files")

NAMES = {"G": "latest_net_G.pth", "E": "latest_net_E.pth", "D": "latest_net_D.pth", "D2": "latest_net_D2.pth"}

# Networks of the public code that form one system, and the config expected for it.
BICYCLE = {"objective": "bicycle_gan", "model.norm": "instance", "model.skip_order": "decoder_first", "model.latent_dim": 8,
           "model.width": 2, "data.input_channels": 3, "model.dropout": False, "sampling.dropout": False}  # fmt: skip
PIX2PIX = {"objective": "pix2pix", "model.width": 2, "data.input_channels": 3, "data.target_channels": 3, "model.conditional": True,
           "model.dropout": True, "sampling.dropout": True, "sampling.running_average": False}  # fmt: skip
UNET = {"model.skip_order": "encoder_first", "model.upsample": "transposed"}
PATCHES = {"model.discriminator": "patchgan", "model.discriminator_scales": 1, "model.discriminator_width": 4}
SCALES = {"model.discriminator": "patchgan", "model.discriminator_scales": 2, "model.discriminator_width": 4, "model.conditional": False}
SYSTEMS = {
    "bicycle_G_unet_128_all_basic bicycle_E_resnet_128 bicycle_D_basic_128_multi": BICYCLE | SCALES | {
        "model.generator": "unet_128", "model.latent_at": "all", "model.upsample": "transposed", "model.encoder": "resnet_128",
        "model.encoder_width": 2, "model.discriminator_layers": 2, "data.crop_size": 128, "model.shared_discriminator": True,
    },
    "bicycle_G_unet_256_all_basic bicycle_E_resnet_256 bicycle_D_basic_256_multi": BICYCLE | SCALES | {
        "model.generator": "unet_256", "model.encoder": "resnet_256", "model.discriminator_layers": 3, "data.crop_size": 256,
    },
    "bicycle_G_unet_128_all_bilinear bicycle_E_conv_128": BICYCLE | {
        "model.generator": "unet_128", "model.latent_at": "all", "model.upsample": "bilinear", "model.encoder": "conv_128",
    },
    "bicycle_G_unet_128_input_basic": BICYCLE | {
        "model.generator": "unet_128", "model.latent_at": "input", "model.upsample": "transposed", "objective": "pix2pix_noise",
    },
    "pix2pix_G_unet_128_batch pix2pix_D_basic3_batch": PIX2PIX | UNET | PATCHES | {
        "model.generator": "unet_128", "model.norm": "batch", "model.discriminator_layers": 3, "data.load_size": 143,
    },
    "pix2pix_G_unet_256_batch pix2pix_D_n_layers5_batch": PIX2PIX | UNET | PATCHES | {
        "model.generator": "unet_256", "model.norm": "batch", "model.discriminator_layers": 5, "data.load_size": 286,
    },
    "pix2pix_G_unet_128_instance pix2pix_D_n_layers1_instance": PIX2PIX | UNET | PATCHES | {
        "model.generator": "unet_128", "model.norm": "instance", "model.discriminator_layers": 1,
    },
    "pix2pix_G_resnet_9blocks_batch pix2pix_D_pixel3_batch": PIX2PIX | {
        "model.generator": "resnet_9", "model.norm": "batch", "model.discriminator": "pixel", "data.crop_size": 256,
    },
    "pix2pix_G_resnet_6blocks_instance": PIX2PIX | {"model.generator": "resnet_6", "model.norm": "instance"},
}  # fmt: skip


def save(folder, networks, *, prefix="", zipped=True):
    """Writes state dicts under PyTorch's file names; returns the files."""
    folder.mkdir(exist_ok=True)
    for name, state in networks.items():
        arrays = {key: value if key.endswith("tracked") else np.float32(value) for key, value in state.items()}
        tensors = {prefix + key: torch.tensor(value) for key, value in arrays.items()}
        torch.save(tensors, folder / NAMES[name], _use_new_zipfile_serialization=zipped)
    return [folder / NAMES[name] for name in networks]


def read(file):
    return {key: value.numpy() for key, value in torch.load(file, weights_only=True).items()}


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)
        assert actual[key].dtype == value.dtype


@pytest.mark.parametrize("system", SYSTEMS)
def test_golden_networks_through_files(system, tmp_path):
    """The run reproduces the outputs of the public code in float32 and, to more digits than float32 has, in float64.

    The files are in float32, as are all golden weights; only running statistics were computed in float64.
    """
    if missing := [name for name in system.split() if f"{name}.npz" not in golden.ALL]:
        pytest.skip(f"no {missing[0]}.npz: set I2I_SHARED")
    records = {record.meta["net"]: record for record in (golden.load(golden.ALL[f"{name}.npz"]) for name in system.split())}
    files = save(tmp_path / "files", {net: record.under("state/") for net, record in records.items()})
    config, *_ = conversion.from_torch(files, tmp_path / "run", {})
    flat = flatten(config)
    assert {name: flat[name] for name in SYSTEMS[system]} == SYSTEMS[system]

    game, state = build.load(tmp_path / "run", networks=None)
    for net, record in records.items():
        role = golden.OURS[net]
        variables = {"params": state.params[role], "batch_stats": state.batch_stats[role]}
        golden.assert_same_outputs(record, getattr(game.networks, role), variables, 1e-4)
        with jax.enable_x64(True):
            exact = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), variables)
            golden.assert_same_outputs(record, getattr(game.networks, role), exact, 1e-9, kinds=("output/",))


def random_state(module, channels, latent=0):
    """PyTorch's state dict of `module` with random numbers, also in biases that a norm cancels, and with nonzero counters."""
    arguments = [(1, 64, 64, channels)] + ([(1, latent)] if latent else [])
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: module.init(rngs, *map(jnp.zeros, arguments)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables)
    state = layout.state_dict_from_params(module, zeros["params"], zeros.get("batch_stats"))
    rng = np.random.default_rng(0)
    return {key: np.int64(7) if key.endswith("tracked") else np.float32(rng.uniform(0.5, 1.5, value.shape)) for key, value in state.items()}


def unet(norm, *, latent=0, channels=3, **options):
    return random_state(UNet(3, 6, 2, norm, **options), channels, latent)


def patches(channels, norm, widths=(4,)):
    return random_state(MultiScale(tuple(PatchGAN(2, width, norm) for width in widths)), channels)


FAMILIES = {
    "pix2pix": lambda: {"G": unet("batch"), "D": patches(6, "batch")},
    "pix2pix with ResNet": lambda: {"G": random_state(ResNet(3, 6, 2, "instance", dropout=True), 1)},
    "BicycleGAN": lambda: {
        "G": unet("instance", latent=4, channels=1, skip_order="decoder_first"),
        "E": random_state(ResNetEncoder(4, 2, "instance", blocks=2), 3),
        "D": patches(3, "instance", (4, 2)),
        "D2": patches(3, "instance", (4, 2)),
    },
    "BicycleGAN with batch norm": lambda: {
        "G": unet("batch", latent=4, latent_at="input", skip_order="decoder_first", upsample="bilinear"),
        "E": random_state(ConvEncoder(4, 2, "batch", layers=3), 3),
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_come_back_bit_for_bit(family, tmp_path, command):
    """Including cancelled biases and counters, but without the prefix of nn.DataParallel."""
    networks = FAMILIES[family]()
    files = save(tmp_path / "files", networks, prefix="module." if "E" in networks else "", zipped=family != "pix2pix")
    status, out, err = command("convert", "--from=torch", *map(str, files), f"--out={tmp_path / 'run'}")
    assert (status, err) == (0, ""), err
    for file in files:
        assert str(file) in out
    assert "--config.data.direction=AtoB" in out
    status, out, err = command("convert", "--to=torch", f"--run={tmp_path / 'run'}", f"--out={tmp_path / 'back'}")
    assert (status, err) == (0, ""), err
    assert {file.name for file in (tmp_path / "back").iterdir()} == {file.name for file in files}
    for name, state in networks.items():
        assert_equal(read(tmp_path / "back" / NAMES[name]), state)


def test_a_trained_run_survives_the_round_trip(trained, tmp_path, command):
    """All four networks; the new run can translate."""
    run, files = trained("bicycle", runs.ORIGINAL), [str(tmp_path / "files" / name) for name in NAMES.values()]
    for options in (
        ["--to=torch", f"--run={run}", f"--out={tmp_path / 'files'}"],
        ["--from=torch", *files, f"--out={tmp_path / 'run'}"],
    ):
        status, _, err = command("convert", *options)
        assert (status, err) == (0, "")
    (game, theirs), (same_game, ours) = (build.load(folder, networks=None) for folder in (run, tmp_path / "run"))
    assert len(ours.params) == 4
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    one, same = (g.networks.generator.clone(kernel_init=max, scale_init=max) for g in (game, same_game))
    assert one == same
    Image.new("RGB", (70, 64)).save(tmp_path / "a.png")
    command("translate", f"--run={tmp_path / 'run'}", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (70, 64)


def test_fine_tuning_starts_with_the_imported_networks(tmp_path, shapes_dir, trained):
    """The other networks, and all optimizers, are newly initialised."""
    files = save(tmp_path / "files", {"G": unet("batch")})
    conversion.from_torch(files, tmp_path / "run", {})
    config = override(
        runs.get_config("finetune", str(tmp_path / "run")), runs.TINY | {"data.name": "shapes", "data.prepared_dir": str(shapes_dir)}
    )
    game, mesh = build.game(config), parallel.make_mesh(jax.devices()[:1])
    with contextlib.closing(Checkpoints(tmp_path / "new", keep=1)) as empty:
        state = newest_state(empty, config, game, mesh)
        assert int(state.step) == 0 and set(state.params) == {"generator", "discriminator"}
        expected = layout.params_from_state_dict(game.networks.generator, read(files[0]))
        jax.tree.map(np.testing.assert_array_equal, state.params["generator"], expected)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state["generator"]))
        config.model.width = 3
        with pytest.raises(
            ConfigError, match="model.width is 3, but 2 in train.start_from .*: its networks fit --config.model.width=2 only"
        ):
            newest_state(empty, config, build.game(config), mesh)
    with pytest.raises(ConfigError, match="finetune:RUN"):
        runs.get_config("finetune", "")


# ---- invalid files


class Code:
    def __reduce__(self):
        return pytest.fail, ("the file's code was run",)


def saved_bytes(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def compressed(content):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    return file.getvalue()


BAD = {
    "nothing": (lambda: b"", "not a whole PyTorch file"),
    "text": (lambda: b"<!DOCTYPE html>", "not a whole PyTorch file"),
    "cut short": (lambda: saved_bytes({"a": torch.zeros(1000)})[:-500], "not a whole PyTorch file"),
    "cut short, old": (lambda: saved_bytes({"a": torch.zeros(1000)}, _use_new_zipfile_serialization=False)[:-500], "not a whole PyTorch"),
    "code": (lambda: saved_bytes({"a": Code()}), "more than tensors, which is never loaded"),
    "bare code": (lambda: pickle.dumps(Code(), protocol=2), "more than tensors, which is never loaded"),
    "module": (lambda: saved_bytes(torch.nn.Linear(2, 2)), "more than tensors, which is never loaded: save the network's state_dict()"),
    "list": (lambda: saved_bytes([torch.zeros(3)]), "holds a list, not tensors by name"),
    "training state": (lambda: saved_bytes({"epoch": 3, "model": {}}), "'epoch' is a int: must be a tensor"),
    "numbered": (lambda: saved_bytes({3: torch.zeros(3)}), "3 is a Tensor: must be a tensor"),
    "complex": (lambda: saved_bytes({"a": torch.zeros(3, dtype=torch.complex64)}), "'a' is not a plain tensor of real numbers"),
    "sparse": (lambda: saved_bytes({"a": torch.zeros(3).to_sparse()}), "'a' is not a plain tensor of real numbers"),
    "nowhere": (lambda: saved_bytes({"a": torch.zeros(3, device="meta")}), "'a' is not a plain tensor of real numbers"),
    "compressed": (lambda: compressed(saved_bytes({"a": torch.zeros(10**6)})), "a compressed archive, which torch.save does not write"),
    "endless": (lambda: saved_bytes({"a": torch.zeros(1).expand(10**6, 10**6)}), "its tensors would take 4000000000000 bytes"),
    "another network": (lambda: saved_bytes({"features.0.weight": torch.zeros(4, 3, 3, 3)}), "no network of pix2pix or BicycleGAN"),
    "whole numbers": (lambda: saved_bytes({k: torch.tensor(v).int() for k, v in unet("batch").items()}), "numbers of type int32"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_an_invalid_file_is_named_in_one_line_and_nothing_is_written(kind, tmp_path, command):
    content, message = BAD[kind]
    file = tmp_path / "latest_net_G.pth"
    file.write_bytes(content())
    status, out, err = command("convert", "--from=torch", str(file), f"--out={tmp_path / 'run'}")
    assert (status, err.count("\n"), out) == (1, 1, "")
    assert err.startswith(f"error: {file}: ") and message in err, err
    assert list(tmp_path.iterdir()) == [file]


def test_wrong_usage(tmp_path, command, trained):
    (file,), out = save(tmp_path / "files", {"G": unet("batch")}), f"--out={tmp_path / 'run'}"
    other = tmp_path / "files" / "other_net_G.pth"
    other.write_bytes(file.read_bytes())
    cases = [
        ([], 2, "give --from=torch FILE... --out=RUN, or --to=torch"),
        (["--from=torch"], 2, "--from=torch takes files"),
        (["--from=tensorflow", str(file)], 2, "tensorflow"),
        (["--from=torch", str(file), f"--run={tmp_path}"], 2, "no --run"),
        (["--to=torch"], 2, "--to=torch takes --run=RUN"),
        (["--to=torch", f"--run={tmp_path}", str(file)], 2, "no files"),
        (["--to=torch", f"--run={tmp_path / 'none'}"], 2, "is not a run: it has no config.json"),
        (["--to=torch", f"--run={trained('pix2pix')}", "--step=7"], 1, "no checkpoint 7"),
        (["--from=torch", str(tmp_path / "none.pth")], 1, f"{tmp_path / 'none.pth'}: no such file"),
        (["--from=torch", str(tmp_path / "files")], 1, f"{tmp_path / 'files'}: is a folder: name its files"),
        (["--from=torch", str(file), str(other)], 1, f"{file} and {other} are both a generator"),
        (["--from=torch", str(file), "--config.model.generator=unet"], 2, "unknown model.generator 'unet'"),
        (["--from=torch", str(file), "--config.model.genarator=unet_64"], 2, "unknown option --config.model.genarator (did you mean"),
        (["--from=torch", str(file), "--config.model.width=many"], 2, "config.model.width"),
        (["--from=torch", str(file), "--config.model.width=3"], 1, "'model.model.0.weight' has shape (2, 3, 4, 4)"),
        (["--from=torch", str(file), "--config.data.input_channels=1", "--config.objective=pix2pix_noise"], 1, f"{file}: "),
    ]
    for options, expected, message in cases:
        status, printed, err = command("convert", *options, out)
        assert (status, err.count("\n"), printed) == (expected, 1, ""), (options, err)
        assert message in err, err
        assert not (tmp_path / "run").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"]
    status, _, err = command("convert", "--from=torch", str(file), f"--out={tmp_path / 'files'}")
    assert (status, err) == (2, f"error: {tmp_path / 'files'} is there already: name a new folder\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.skip": False}, "generator: neither project has a U-Net without skips"),
        ({"model.upsample": "bilinear"}, "generator: neither project has a U-Net with skip_order encoder_first and bilinear upsampling"),
        ({"model.generator": "resnet_6", "model.upsample": "bilinear"}, "no PyTorch layout is known for a ResNet with bilinear"),
        ({"model.norm": "none", "model.discriminator_scales": 2}, "discriminator: neither project has multi-scale discriminators"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_networks_that_neither_project_has_are_refused(options, message, tmp_path):
    config = override(presets.pix2pix("shapes"), runs.TINY | runs.TINY_NETWORKS | {"model.generator": "unet_64"} | options)
    state = jax.tree.map(jnp.zeros_like, jax.eval_shape(build.game(config).init, jax.random.key(0), build.example_batch(config)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(config))
    with contextlib.closing(Checkpoints(tmp_path / "run" / "checkpoints", keep=1)) as saved:
        saved.save(0, state.replace(opt_state={}))
    with pytest.raises(ValueError, match=message):
        conversion.to_torch(tmp_path / "run", tmp_path / "files")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def mangled(state, rng):
    """A copy in which one tensor is dropped, renamed, reshaped, emptied, enlarged, of another type, NaN or another tensor."""
    state, key = dict(state), str(rng.choice(list(state)))
    value, other = state[key], str(rng.choice(list(state)))
    change = rng.integers(8)
    if change == 0:
        del state[key]
    elif change == 1:
        state[key + str(rng.integers(10))] = state.pop(key)
    elif change == 2:
        state[key] = value.reshape(-1) if value.ndim > 1 else value.reshape(1, *value.shape)
    elif change == 3:
        state[key] = value.reshape(-1)[:0]
    elif change == 4:
        state[key] = value.to(torch.int32) if rng.integers(2) else value.half()
    elif change == 5:
        state[key] = state[other]
    elif change == 6:
        state[key] = torch.cat([value, value]) if value.ndim else value.reshape(1)
    else:
        state[key] = value.T if value.ndim == 2 else value.transpose(0, 1) if value.ndim > 2 else value.double() * torch.nan
    return state


def test_two_hundred_damaged_files(tmp_path, monkeypatch):
    """Each is refused in one line that names it, or accepted as a network; no code in it is run and nothing is left behind."""
    monkeypatch.setattr(conversion, "_save", lambda folder, config, state, leftover_tensors: None)  # which is slow
    whole = {key: torch.from_numpy(np.array(value)) for key, value in unet("batch").items()}
    contents = [saved_bytes(whole), saved_bytes(whole, _use_new_zipfile_serialization=False), saved_bytes({"a": Code(), **whole})]
    rng, file, accepted = np.random.default_rng(0), tmp_path / "latest_net_G.pth", 0
    for i in range(200):
        file.write_bytes(damage.torn(contents[i % 3], rng) if i < 120 else saved_bytes(mangled(whole, rng)))
        try:
            conversion.from_torch([file], tmp_path / "run", {})
        except (TorchFileError, ConversionError, ConfigError) as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error), error
            assert not (tmp_path / "run").exists()
        else:
            accepted += 1
            (tmp_path / "run").rmdir()
    assert 0 < accepted < 100
    assert list(tmp_path.iterdir()) == [file]
