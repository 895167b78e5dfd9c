"""Training cLR-GAN with its encoder, in float64, compared with the same training written for the public PyTorch networks.

    python benchmarks/exact_clr_gan.py --reference=DIR [--seeds=5 --steps=3]

DIR is a clone of junyanz/BicycleGAN, which has the networks and the losses, but not this system. Both get the same weights, images and
latents. Losses are compared by the largest |ours - theirs| / |theirs| over all steps and terms; gradients, at step 1, by the largest
absolute difference divided by the network's largest absolute value. The narrowest system has units at exactly 0 before a LeakyReLU,
where PyTorch's slope is 0.2 and that of jax.nn.leaky_relu 1. Needs the extra `torch`.
"""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tables
import torch
from absl import flags

from i2i_jax import build, objectives
from i2i_jax.commands import app
from i2i_jax.config import Config
from i2i_jax.interop.torch import params_from_state_dict
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Batch

_REFERENCE = flags.DEFINE_string("reference", None, "A clone of junyanz/BicycleGAN.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Repetitions of each system, with different weights, images and latents.")
_STEPS = flags.DEFINE_integer("steps", 3, "Adam steps per repetition.")

LIMIT = 1e-10
ROLES = {"G": "generator", "E": "encoder", "D2": "discriminator_prior"}
UPSAMPLE = {"basic": "transposed", "bilinear": "bilinear"}
LAMBDA_Z, LEARNING_RATE, BETA1, NZ = 0.5, 2e-4, 0.5, 8

# In BicycleGAN's option names. The latent is fed to every layer; two discriminators see only the image.
SYSTEMS: list[dict[str, Any]] = [
    {"size": 128, "upsample": "basic", "netE": "resnet_128", "width": 4, "batch": 2},
    {"size": 128, "upsample": "basic", "netE": "conv_128", "width": 8, "batch": 4},
    {"size": 256, "upsample": "basic", "netE": "resnet_256", "width": 4, "batch": 2},
    {"size": 256, "upsample": "bilinear", "netE": "conv_256", "width": 4, "batch": 2},
    # So narrow that at some pixels all of G's last ReLUs are off: the image there, and the first units of D2 and E, are exactly 0 at first.
    {"size": 128, "upsample": "bilinear", "netE": "conv_128", "width": 2, "batch": 2},
]  # fmt: skip


class Step(NamedTuple):
    """Losses and gradients of one step; gradients in our layout."""

    losses: dict[str, float]
    gradients: dict[str, Any]


class Figures(NamedTuple):
    """Relative differences from PyTorch in one repetition."""

    losses: float
    G: float
    E: float
    D2: float


def theirs(options: dict[str, Any], seed: int) -> dict[str, torch.nn.Module]:
    """Networks with random weights and biases of zero, as BicycleGAN starts."""
    from models import networks

    torch.manual_seed(seed)
    size, width, common = options["size"], options["width"], {"norm": "instance", "init_type": "xavier", "init_gain": 0.7}
    with contextlib.redirect_stdout(io.StringIO()):
        built = {
            "G": networks.define_G(3, 3, NZ, width, f"unet_{size}", where_add="all", upsample=options["upsample"], **common),
            "E": networks.define_E(3, NZ, width, options["netE"], vaeLike=True, **common),
            "D2": networks.define_D(3, width, f"basic_{size}_multi", num_Ds=2, **common),
        }
    return {name: network.double().train() for name, network in built.items()}


def batch_of(options: dict[str, Any], seed: int, step: int) -> list[np.ndarray]:
    """Inputs and targets with 8-bit values, [b, 3, h, w] in [-1, 1], and latents, [b / 2, nz]."""
    random, batch, size = np.random.default_rng([seed, step]), options["batch"], options["size"]
    images = [random.integers(0, 256, (batch, 3, size, size)) / 127.5 - 1 for _ in "AB"]
    return [*images, random.normal(size=(batch // 2, NZ))]


def their_steps(networks: dict[str, torch.nn.Module], batches: list[list[np.ndarray]], read: Callable) -> Iterator[Step]:
    """Steps of G and E against D2, in the order of BiCycleGANModel.optimize_parameters."""
    from models.networks import GANLoss

    gan, l1 = GANLoss("lsgan").double(), torch.nn.L1Loss()
    optimizers = {n: torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, betas=(BETA1, 0.999)) for n, net in networks.items()}
    for batch in batches:
        a, b, z = map(torch.from_numpy, batch)
        half = len(z)
        fake = networks["G"](a[:half], z)
        mu, _ = networks["E"](fake)
        losses = {"gan": gan(networks["D2"](fake), True)[0], "latent": LAMBDA_Z * l1(mu, z)}
        networks["G"].zero_grad()
        networks["E"].zero_grad()
        (losses["gan"] + losses["latent"]).backward()
        networks["D2"].zero_grad()  # discard the gradients of the generator's loss
        losses["D2"] = gan(networks["D2"](fake.detach()), False)[0] + gan(networks["D2"](b[half:]), True)[0]
        losses["D2"].backward()
        yield Step({name: loss.item() for name, loss in losses.items()}, read(networks, gradient=True))
        for optimizer in optimizers.values():
            optimizer.step()


def config_of(options: dict[str, Any]) -> Config:
    config = Config()
    config.objective, config.gan_loss = "clr_gan", "lsgan"
    config.data.batch_size, config.data.crop_size = options["batch"], options["size"]
    config.model.generator, config.model.encoder = f"unet_{options['size']}", options["netE"]
    config.model.width, config.model.latent_dim, config.model.upsample = options["width"], NZ, UPSAMPLE[options["upsample"]]
    config.model.discriminator_layers, config.model.conditional = {128: 2, 256: 3}[options["size"]], False
    config.weights.gan_prior, config.weights.latent = 1.0, LAMBDA_Z
    config.optimizer.learning_rate, config.optimizer.beta1, config.optimizer.decay_fraction = LEARNING_RATE, BETA1, 0.0
    return config


def remember_gradient() -> optax.GradientTransformation:
    """An identity transformation whose state is the last gradient."""
    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), lambda grad, *_: (grad, grad))


def game_of(options: dict[str, Any]) -> Game:
    game = build.game(config_of(options))
    return dataclasses.replace(game, tx=optax.chain(remember_gradient(), game.tx))


def compiled(game: Game) -> Callable:
    """The jitted training step with given latents: (state, batch, z)."""

    @jax.jit
    def step(state: TrainState, batch: Batch, z: jax.Array) -> Any:
        with mock.patch.object(objectives, "standard_normal", lambda nets, shape: z.reshape(shape)):
            return game.train_step(state, batch, jax.random.key(0))

    return step


def our_steps(game: Game, step: Callable, params: dict[str, Any], batches: list[list[np.ndarray]]) -> Iterator[Step]:
    params = {ROLES[name]: jax.tree.map(jnp.asarray, tree) for name, tree in params.items()}
    state = TrainState(jnp.int32(0), params, {n: {} for n in params}, {n: game.tx.init(tree) for n, tree in params.items()})
    for *images, z in batches:
        state, (generator, discriminator) = step(state, Batch(*(x.transpose(0, 2, 3, 1) for x in images)), z)
        losses = {"gan": generator["gan_prior"], "latent": generator["latent"], "D2": discriminator["gan_prior"]}
        yield Step(jax.tree.map(float, losses), {name: state.opt_state[role][0] for name, role in ROLES.items()})


def compared(ours: list[Step], expected: list[Step]) -> Figures:
    losses = max(abs(o.losses[n] - loss) / abs(loss) for o, e in zip(ours, expected, strict=True) for n, loss in e.losses.items())
    return Figures(losses, **{name: difference(ours[0].gradients[name], tree) for name, tree in expected[0].gradients.items()})


def difference(found: Any, expected: Any) -> float:
    apart = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), found, expected)
    return float(max(jax.tree.leaves(apart)) / max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)))


def replays(options: dict[str, Any]) -> Iterator[tuple[int, Figures]]:
    """Yields (seed, figures)."""
    game = game_of(options)
    step = compiled(game)

    def read(networks: dict[str, torch.nn.Module], *, gradient: bool = False) -> dict[str, Any]:
        def array(p: torch.nn.Parameter) -> np.ndarray:
            return (torch.zeros_like(p) if p.grad is None else p.grad).numpy().copy() if gradient else p.detach().numpy().copy()

        arrays = {name: {key: array(p) for key, p in network.named_parameters()} for name, network in networks.items()}
        return {name: params_from_state_dict(getattr(game.networks, ROLES[name]), state) for name, state in arrays.items()}

    for seed in range(_SEEDS.value):
        networks, batches = theirs(options, seed), [batch_of(options, seed, i) for i in range(_STEPS.value)]
        ours = list(our_steps(game, step, read(networks), batches))
        yield seed, compared(ours, list(their_steps(networks, batches, read)))


def main(argv: list[str]) -> None:
    sys.path.insert(0, _REFERENCE.value)
    jax.config.update("jax_enable_x64", True)
    print(tables.lines(["system", "seed", "losses", "gradient of G", "of E", "of D2"], []), flush=True)
    wrong = []
    for options in SYSTEMS:
        name = ", ".join([f"unet_{options['size']} {options['upsample']}", options["netE"], f"width {options['width']}"])
        for seed, found in replays(options):
            print(f"| {name} | {seed} | {' | '.join(f'{x:.1e}' for x in found)} |", flush=True)
            wrong += [f"{name}, seed {seed}"] if max(found) > LIMIT else []
    if wrong:
        sys.exit(f"error: not equal within {LIMIT}: {'; '.join(wrong)}")


if __name__ == "__main__":
    app.start(main)
