"""Converts files of the two public PyTorch projects, pix2pix and BicycleGAN, to runs, and runs to such files."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from i2i_jax import build
from i2i_jax import config as configs
from i2i_jax.config import Config, ConfigError
from i2i_jax.interop import imported, recognise, torch
from i2i_jax.interop.layout import StateDictError, refuse_foreign
from i2i_jax.models.encoders import with_predicted_std
from i2i_jax.storage import checkpoints, torch_files
from i2i_jax.storage.files import new_folder
from i2i_jax.train_state import Game, TrainState

NAMES = {"generator": "G", "encoder": "E", "discriminator": "D", "discriminator_prior": "D2"}  # as in EPOCH_net_NAME.pth
IGNORED_TENSORS = "torch.npz"  # in the run's folder: tensors of the PyTorch files that our networks do not have


class ConversionError(ValueError):
    """Files or a run cannot be converted; the message is one line that names the file and the key."""


class Imported(NamedTuple):
    """The result of `from_torch`.

    Attributes:
        config: the config of the run.
        assumed: options that could not be inferred from the files, with the values that were assumed.
        sources: the file of each network.
    """

    config: Config
    assumed: dict[str, Any]
    sources: dict[str, Path]


def from_torch(files: Sequence[Path], out: Path, overrides: Mapping[str, Any]) -> Imported:
    """Makes a run from networks of PyTorch, with a checkpoint at step 0 that has no optimizer state.

    Args:
        files: `*.pth` files, one for each network; a second discriminator is recognised by its name `*_net_D2.pth`.
        out: the folder of the new run; it must not exist, or be empty. It is not created if the conversion fails.
        overrides: options of the config, by dotted name, that take precedence over what is inferred from the files.

    Raises:
        TorchFileError: if a file cannot be read.
        ConversionError: if a file holds no network of the two projects, or the networks do not belong together.
        ConfigError: if an option is not valid, or `out` is not empty.
    """
    sources, candidates, states = {}, {}, {}
    for file in files:
        state = torch_files.read(file)
        with _naming(file):
            networks = recognise.recognise(state)
        role = "discriminator_prior" if file.stem.endswith("net_D2") else networks[0].network
        if role in sources:
            raise ConversionError(f"{sources[role]} and {file} are both a {role}: name one of each, a second discriminator *_net_D2.pth")
        sources[role], candidates[role], states[role] = file, networks, state
    with _naming(", ".join(map(str, files))):
        reading = imported.read_config(candidates, states, overrides)
    state, leftover_tensors = _state(reading.config, sources, states)
    with new_folder(out, error=ConfigError) as folder:
        _save(folder, reading.config, state, leftover_tensors)
    return Imported(*reading, sources)


def _save(folder: Path, config: Config, state: TrainState, leftover_tensors: dict[str, np.ndarray]) -> None:
    (folder / "config.json").write_text(configs.to_json(config))
    np.savez(folder / IGNORED_TENSORS, **cast(Any, leftover_tensors))
    with contextlib.closing(checkpoints.Checkpoints(folder / "checkpoints", keep=1)) as saved:
        saved.save(0, state)


def to_torch(run: str | Path, out: Path, *, step: int | Literal["best"] | None = None) -> list[Path]:
    """Writes the networks of a run as files of the PyTorch projects: latest_net_G.pth, latest_net_E.pth, ...

    A run that was imported and not trained since gives back the original tensors, bit for bit.

    Args:
        run: the run's folder, a packed file, hf://USER/NAME, or the name of a model in the package.
        out: the folder to write to; it must not exist, or be empty.
        step: the checkpoint: a step or "best"; defaults to the newest.

    Returns:
        The files.

    Raises:
        ConversionError: if neither project has such a network.
        ConfigError: if `run` is not a run, or `out` is not empty.
        CheckpointError: if there is no such checkpoint.
    """
    game, state = build.load(run, step=step, networks=None)
    leftover_tensors = _leftover_tensors(Path(run))
    state_dicts = {}
    for role, params in state.params.items():
        module, params = with_predicted_std(*torch.with_transposed_convolutions(_module(game, role), params))
        with _naming(f"{run}: {role}"):
            refuse_foreign(module, latent_dim=game.networks.latent_dim)
        kept = {key.removeprefix(f"{role}/"): value for key, value in leftover_tensors.items() if key.startswith(f"{role}/")}
        state_dicts[f"latest_net_{NAMES[role]}.pth"] = torch.state_dict_from_params(
            module, params, state.batch_stats[role], ignored_tensors=kept
        )
    with new_folder(out, error=ConfigError) as folder:
        for name, arrays in state_dicts.items():
            torch_files.write(folder / name, arrays)
    return [out / name for name in state_dicts]


def _leftover_tensors(run: Path) -> dict[str, np.ndarray]:
    """Tensors of the files that a run was imported from, named ROLE/KEY."""
    if not (run / IGNORED_TENSORS).is_file():
        return {}
    with np.load(run / IGNORED_TENSORS, allow_pickle=False) as file:
        return {configs.current_name(name): tensor for name, tensor in file.items()}


def _state(config: Config, sources: Mapping[str, Path], states: Mapping[str, torch.StateDict]) -> tuple[TrainState, dict[str, np.ndarray]]:
    """The networks in our layout, without optimizer state, and the tensors that our networks do not have."""
    game = build.game(config)
    needed = jax.eval_shape(game.init, jax.random.key(0), build.example_batch(config))
    params, stats, leftover_tensors = {}, {}, {}
    for role, file in sources.items():
        if role not in needed.params:
            raise ConversionError(f"{file}: {config.objective} has no {role}: leave it out")
        module, state = _module(game, role), states[role]
        with _naming(file):
            params[role] = jax.tree.map(_float32, torch.params_from_state_dict(module, state))
            stats[role] = jax.tree.map(_float32, torch.batch_stats_from_state_dict(module, state))
            _refuse_misfit(params[role], needed.params[role])
            leftover_tensors |= {f"{role}/{key}": value for key, value in torch.ignored_tensors(module, state).items()}
    return TrainState(jnp.int32(0), params, stats, {}), leftover_tensors


def _module(game: Game, role: str) -> Any:
    module = getattr(game.networks, role)
    # Without z, BicycleGAN's U-Net has the same layout as with z at the input.
    return module.clone(latent_at="input") if hasattr(module, "latent_at") and not game.networks.latent_dim else module


def _float32(array: np.ndarray) -> jax.Array:
    if not np.issubdtype(array.dtype, np.floating):
        raise StateDictError(f"holds numbers of type {array.dtype}: must be floating point")
    return jnp.asarray(array, jnp.float32)


def _refuse_misfit(params: dict[str, Any], needed: dict[str, Any]) -> None:
    """Raises StateDictError if the options build another network than the file's."""
    shapes, expected = (flatten_dict(jax.tree.map(lambda leaf: leaf.shape, tree), sep=".") for tree in (params, needed))
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise StateDictError(f"{name} is {shapes.get(name)}, but these options make it {expected.get(name)}: leave out --config...")


@contextlib.contextmanager
def _naming(source: object) -> Iterator[None]:
    """Puts `source` in front of the message of a StateDictError, which becomes a ConversionError."""
    try:
        yield
    except StateDictError as error:
        raise ConversionError(f"{source}: {error}") from error
