"""Compares the public PyTorch networks with the runs that `convert` makes from their files, at full width.

    python benchmarks/exact_torch.py --reference=DIR [--width=64 --batch=1]

DIR is a clone of junyanz/BicycleGAN or junyanz/pytorch-CycleGAN-and-pix2pix, whose systems are compared. Its networks get random
weights, are saved with `torch.save` and converted, and both get the same random images; the run is written back and loaded with
strict=True. Each figure is the largest absolute difference divided by the largest absolute value. Needs the extra `torch`.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
import torch
from absl import flags

from i2i_jax import build
from i2i_jax.commands import app
from i2i_jax.interop import conversion

_REFERENCE = flags.DEFINE_string("reference", None, "A clone of one of the two public projects.", required=True)
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of each network's first layer.")
_BATCH = flags.DEFINE_integer("batch", 1, "Images per batch.")

ROLES = {"G": "generator", "E": "encoder", "D": "discriminator"}
LIMITS = {"float32": 1e-4, "float64": 1e-9}

# The networks of each system, in the projects' option names; c: input channels.
SYSTEMS: dict[str, list[dict[str, Any]]] = {
    "bicycle": [
        {"netG": "unet_256", "where_add": "all", "upsample": "basic", "netE": "resnet_256", "netD": "basic_256_multi"},
        {"netG": "unet_256", "where_add": "all", "upsample": "bilinear", "netE": "conv_256", "netD": "basic_256_multi", "num_Ds": 3},
        {"netG": "unet_256", "where_add": "input", "upsample": "bilinear", "netE": "conv_256", "netD": "basic_256_multi", "nz": 4},
        {"netG": "unet_128", "where_add": "all", "upsample": "basic", "netE": "resnet_128", "netD": "basic_128_multi", "c": 1},
        {"netG": "unet_128", "where_add": "input", "upsample": "basic", "netE": "conv_128", "netD": "basic_128_multi", "nz": 4},
    ],
    "pix2pix": [
        {"netG": "unet_256", "norm": "batch", "netD": "basic"},
        {"netG": "unet_256", "norm": "instance", "netD": "n_layers", "n_layers_D": 5},
        {"netG": "unet_128", "norm": "batch", "netD": "pixel", "c": 1},
        {"netG": "resnet_9blocks", "norm": "batch", "netD": "n_layers", "n_layers_D": 1},
        {"netG": "resnet_9blocks", "norm": "instance", "netD": "basic", "use_dropout": True},
        {"netG": "resnet_6blocks", "norm": "instance", "netD": "pixel"},
    ],
}  # fmt: skip


def theirs(options: dict[str, Any]) -> dict[str, torch.nn.Module]:
    """The networks of a system with random weights, in training mode but without dropout."""
    from models import networks

    width, initial, channels = _WIDTH.value, {"init_type": "xavier", "init_gain": 0.7}, options.get("c", 3)
    if "netE" in options:
        latent = {"nz": options.get("nz", 8), "netG": options["netG"], "where_add": options["where_add"], "upsample": options["upsample"]}
        built = {
            "G": networks.define_G(channels, 3, ngf=width, norm="instance", **latent, **initial),
            "E": networks.define_E(3, latent["nz"], width, options["netE"], norm="instance", vaeLike=True, **initial),
            "D": networks.define_D(3, width, options["netD"], norm="instance", num_Ds=options.get("num_Ds", 2), **initial),
        }
    else:
        norm, dropout = options["norm"], options.get("use_dropout", False)
        built = {
            "G": networks.define_G(channels, 3, width, options["netG"], norm, dropout, **initial),
            "D": networks.define_D(channels + 3, width, options["netD"], options.get("n_layers_D", 3), norm, **initial),
        }
    for module in (module for network in built.values() for module in network.modules()):
        module.train(not isinstance(module, torch.nn.Dropout))
    return built


def inputs_of(networks: dict[str, torch.nn.Module], options: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    """The random inputs of each network: images [b, c, h, w] with float32 values, and for G a latent if it takes one."""
    random, channels = np.random.default_rng(0), options.get("c", 3)
    side = 256 if "256" in options["netG"] else 128

    def image(count: int) -> np.ndarray:
        return random.uniform(-1, 1, (_BATCH.value, count, side, side)).astype(np.float32)

    if "E" not in networks:
        return {"G": [image(channels)], "D": [image(channels + 3)]}
    z = random.normal(size=(_BATCH.value, options.get("nz", 8))).astype(np.float32)
    return {"G": [image(channels), z], "E": [image(3)], "D": [image(3)]}


def difference(found: Any, expected: Any) -> float:
    found, expected = jax.tree.leaves(found), expected if isinstance(expected, (list, tuple)) else [expected]
    flat = [x[0] if isinstance(x, list) else x for x in expected]
    arrays = [x.detach().numpy().transpose(0, 2, 3, 1) if x.ndim == 4 else x.detach().numpy() for x in flat]
    largest = max(np.abs(x).max() for x in arrays)
    return float(max(np.abs(ours - x).max() for ours, x in zip(found, arrays, strict=True)) / largest)


def measured(options: dict[str, Any], folder: Path) -> list[list[Any]]:
    """Returns one row per network: name, a difference per precision, parameter count, whether it came back bit for bit."""
    networks = theirs(options)
    files = [folder / f"latest_net_{name}.pth" for name in networks]
    for file, network in zip(files, networks.values(), strict=True):
        torch.save(network.state_dict(), file)
    config, *_ = conversion.from_torch(files, folder / "run", {})
    game, state = build.load(folder / "run", networks=None)
    conversion.to_torch(folder / "run", folder / "back")
    rows = []
    for name, inputs in inputs_of(networks, options).items():
        network, module = networks[name], getattr(game.networks, ROLES[name])
        back = torch.load(folder / "back" / f"latest_net_{name}.pth", weights_only=True)
        same = all(torch.equal(back[key], value) for key, value in network.state_dict().items())
        network.load_state_dict(back, strict=True)
        switches = {"deterministic": True} if name == "G" else {}
        variables = {"params": state.params[ROLES[name]], "batch_stats": state.batch_stats[ROLES[name]]}
        row = [
            ", ".join([options[f"net{name}"], config.model.norm, *([options["where_add"], options["upsample"]] if "E" in networks else [])])
        ]
        for precision in LIMITS:
            with jax.enable_x64(precision == "float64"):
                exact = jax.tree.map(lambda leaf, to=precision: jnp.asarray(np.asarray(leaf), to), variables)
                images = [jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x, precision) for x in inputs]
                run = jax.jit(lambda v, *x, net=module, options=switches: net.apply(v, *x, **options, mutable=["batch_stats"])[0])
                tensors = [torch.from_numpy(x).to(getattr(torch, precision)) for x in inputs]
                row.append(difference(run(exact, *images), network.to(getattr(torch, precision))(*tensors)))
        rows.append([*row, sum(p.numel() for p in network.parameters()), same])
    return rows


def main(argv: list[str]) -> None:
    sys.path.insert(0, _REFERENCE.value)
    project = "bicycle" if (Path(_REFERENCE.value) / "models" / "bicycle_gan_model.py").exists() else "pix2pix"
    print(tables.lines([f"{project}, width {_WIDTH.value}", *LIMITS, "parameters", "comes back bit for bit"], []), flush=True)
    wrong = []
    for options in SYSTEMS[project]:
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(options, Path(folder))
        print(
            *(f"| {name} | {single:.1e} | {double:.1e} | {count:,} | {same} |" for name, single, double, count, same in rows),
            sep="\n",
            flush=True,
        )
        wrong += [row for row in rows if not (row[1] <= LIMITS["float32"] and row[2] <= LIMITS["float64"] and row[4])]
    if wrong:
        sys.exit(f"error: not equal within {LIMITS}: {wrong}")


if __name__ == "__main__":
    app.start(main)
