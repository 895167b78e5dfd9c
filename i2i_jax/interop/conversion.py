"""Runs made of the files of the two public PyTorch projects, and such files made of runs."""

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
from i2i_jax.storage import checkpoints, torch_files
from i2i_jax.storage.files import new_folder
from i2i_jax.train_state import Game, TrainState

NAMES = {"generator": "G", "encoder": "E", "discriminator": "D", "discriminator_prior": "D2"}  # PyTorch's: EPOCH_net_NAME.pth
IGNORED_TENSORS = "torch.npz"  # in a run: what its PyTorch files held beside its networks


class ConversionError(ValueError):
    """Files or a run that cannot be converted: one line that names the file and the key."""


class Imported(NamedTuple):
    """A run made of files: its config, those of the options that no file tells, and the file of each network."""

    config: Config
    assumed: dict[str, Any]
    sources: dict[str, Path]


def from_torch(files: Sequence[Path], out: Path, given: Mapping[str, Any]) -> Imported:
    """Makes the run `out` of the networks in `files`, at step 0; `given` are options that the user names.

    Raises TorchFileError, ConversionError or ConfigError, and then leaves nothing.
    """
    sources, found, states = {}, {}, {}
    for file in files:
        state = torch_files.read(file)
        with _naming(file):
            networks = recognise.recognise(state)
        role = "discriminator_prior" if file.stem.endswith("net_D2") else networks[0].network
        if role in sources:
            raise ConversionError(f"{sources[role]} and {file} are both a {role}: name one of each, a second discriminator *_net_D2.pth")
        sources[role], found[role], states[role] = file, networks, state
    with _naming(", ".join(map(str, files))):
        reading = imported.read_config(found, states, given)
    state, leftover_tensors = _state(reading.config, sources, states)
    with new_folder(out, error=ConfigError) as folder:
        _save(folder, reading.config, state, leftover_tensors)
    return Imported(*reading, sources)


def _save(folder: Path, config: Config, state: TrainState, leftover_tensors: dict[str, np.ndarray]) -> None:
    (folder / "config.json").write_text(configs.to_json(config))
    np.savez(folder / IGNORED_TENSORS, **cast(Any, leftover_tensors))
    with contextlib.closing(checkpoints.Checkpoints(folder / "checkpoints", keep=1)) as saved:
        saved.save(0, state)


def to_torch(run: Path, out: Path, *, step: int | Literal["best"] | None = None) -> list[Path]:
    """Writes the networks of a run into the new folder `out` as the projects have them: latest_net_G.pth and so on."""
    game, state = build.load(run, step=step, networks=None)
    leftover_tensors: dict[str, np.ndarray] = {}
    if (run / IGNORED_TENSORS).is_file():
        with np.load(run / IGNORED_TENSORS, allow_pickle=False) as file:
            leftover_tensors = {configs.current_name(name): tensor for name, tensor in file.items()}
    written = {}
    for role, params in state.params.items():
        module = _module(game, role)
        with _naming(f"{run}: {role}"):
            refuse_foreign(module, latent_dim=game.networks.latent_dim)
        kept = {key.removeprefix(f"{role}/"): value for key, value in leftover_tensors.items() if key.startswith(f"{role}/")}
        written[f"latest_net_{NAMES[role]}.pth"] = torch.state_dict_from_params(
            module, params, state.batch_stats[role], ignored_tensors=kept
        )
    with new_folder(out, error=ConfigError) as folder:
        for name, arrays in written.items():
            torch_files.write(folder / name, arrays)
    return [out / name for name in written]


def _state(config: Config, sources: Mapping[str, Path], states: Mapping[str, torch.StateDict]) -> tuple[TrainState, dict[str, np.ndarray]]:
    """The networks in our layout, without optimizers, and what has no place in it."""
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
    # BicycleGAN builds its U-Net without z like the one with z at the input.
    return module.clone(latent_at="input") if hasattr(module, "latent_at") and not game.networks.latent_dim else module


def _float32(array: np.ndarray) -> jax.Array:
    if not np.issubdtype(array.dtype, np.floating):
        raise StateDictError(f"holds numbers of type {array.dtype}: must be floating point")
    return jnp.asarray(array, jnp.float32)


def _refuse_misfit(params: dict[str, Any], needed: dict[str, Any]) -> None:
    """Raises StateDictError where the options given make another network than the file's."""
    found, expected = (flatten_dict(jax.tree.map(lambda leaf: leaf.shape, tree), sep=".") for tree in (params, needed))
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise StateDictError(f"{name} is {found.get(name)}, but these options make it {expected.get(name)}: leave out --config...")


@contextlib.contextmanager
def _naming(source: object) -> Iterator[None]:
    try:
        yield
    except StateDictError as error:
        raise ConversionError(f"{source}: {error}") from error
