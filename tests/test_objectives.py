"""Which loss term has a gradient for which network, for every objective."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import losses, objectives
from i2i_jax.config import OBJECTIVES
from i2i_jax.data import palettes
from i2i_jax.types import PLAYERS, Batch
from tiny import batch_of, config_of, game_of, state_of

G, E, D, D_PRIOR = NETWORKS = ("generator", "encoder", "discriminator", "discriminator_prior")

BATCH = batch_of(4)

# objective: player: term: the networks for which the gradient of the term is not zero
TRAINED_BY = {
    "pix2pix": {"generator": {"gan": {G, D}, "l1": {G}}, "discriminator": {"gan": {G, D}}},
    "pix2pix_noise": {"generator": {"gan": {G, D}, "l1": {G}}, "discriminator": {"gan": {G, D}}},
    "cae_gan": {"generator": {"gan": {G, E, D}, "l1": {G, E}}, "discriminator": {"gan": {G, E, D}}},
    "cvae_gan": {"generator": {"gan": {G, E, D}, "l1": {G, E}, "kl": {E}}, "discriminator": {"gan": {G, E, D}}},
    "clr_gan": {"generator": {"gan_prior": {G, D_PRIOR}, "latent": {G, E}}, "discriminator": {"gan_prior": {G, D_PRIOR}}},
    "bicycle_gan": {
        "generator": {"gan": {G, E, D}, "l1": {G, E}, "kl": {E}, "gan_prior": {G, D_PRIOR}, "latent": {G}},
        "discriminator": {"gan": {G, E, D}, "gan_prior": {G, D_PRIOR}},
    },
    "segmenter": {"generator": {"cross_entropy": {G}}, "discriminator": {}},
}


def compiled_objective(config):
    """The config's objective as a compiled function of parameters and a batch."""
    game = game_of(config)
    rngs = {name: jax.random.key(i) for i, name in enumerate(("latent", "dropout"))}
    return jax.jit(lambda params, batch: nn.apply(game.objective, game.networks)({"params": params}, batch, rngs=rngs))


def parameters(config):
    return state_of(game_of(config), BATCH).params


def reached(gradient):
    return {name for name, leaves in gradient.items() if any(np.any(leaf) for leaf in jax.tree.leaves(leaves))}


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_term_reaches_its_networks_and_no_other(objective):
    config = config_of(objective)
    jacobian = jax.jit(jax.jacrev(compiled_objective(config)))(parameters(config), BATCH)  # the gradient of every term
    found = {p: {term: reached(gradient) for term, gradient in getattr(jacobian, p).items()} for p in PLAYERS}
    assert found == TRAINED_BY[objective]


def test_the_latent_loss_can_reach_the_encoder():
    config = config_of("bicycle_gan")
    config.latent_trains_encoder = True
    gradient = jax.jit(jax.grad(lambda params: compiled_objective(config)(params, BATCH).generator["latent"]))(parameters(config))
    assert reached(gradient) == {G, E}


MODE_SEEKING_TRAINS = {"pix2pix_noise": {G}, "clr_gan": {G}, "bicycle_gan": {G, E}}


@pytest.mark.parametrize("objective", MODE_SEEKING_TRAINS)
def test_mode_seeking_is_one_more_term(objective):
    """It leaves all other terms as they are to the last bit, since its latent is drawn after theirs."""
    config, seeking = config_of(objective), config_of(objective)
    seeking.weights.mode_seeking = 2.0
    params, run = parameters(config), compiled_objective(seeking)
    without, found = compiled_objective(config)(params, BATCH), run(params, BATCH)
    assert found.generator.pop("mode_seeking") > 0
    assert found == without
    gradient = jax.jit(jax.grad(lambda params: run(params, BATCH).generator["mode_seeking"]))(params)
    assert reached(gradient) == MODE_SEEKING_TRAINS[objective]


def test_mode_seeking_of_bicycle_gan_compares_its_two_branches(monkeypatch):
    config = config_of("bicycle_gan")
    config.weights.mode_seeking = 2.0
    noise, z = jax.random.normal(jax.random.key(3), (2, 2, 5))
    params, nets, queue = parameters(config), game_of(config).networks, [noise, z]
    monkeypatch.setattr(objectives, "standard_normal", lambda nets, shape: queue.pop(0))
    found = compiled_objective(config)(params, BATCH).generator["mode_seeking"]
    pairs = Batch(*(x[:2] for x in BATCH))
    posterior = nets.encoder.apply({"params": params[E]}, pairs.target)
    encoded = posterior.mean + jnp.exp(posterior.log_var / 2) * noise
    image, other = (nets.generator.apply({"params": params[G]}, pairs.input, latent) for latent in (z, encoded))
    expected = 2 / (jnp.abs(image - other).mean() / jnp.abs(z - encoded).mean() + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_segmenter_learns_the_classes_of_its_palette():
    """Its loss is the cross-entropy of its scores; its output has the colours of the classes with the highest scores."""
    config = config_of("segmenter")
    game, palette = game_of(config), palettes.PALETTES[config.data.palette]
    labels = jnp.asarray(np.random.default_rng(0).choice(palette.colours(), BATCH.target.shape[:3]))
    params = parameters(config)
    found = compiled_objective(config)(params, Batch(BATCH.input, labels)).generator["cross_entropy"]
    network, options = game.networks.generator, {"use_running_average": False, "deterministic": True}
    scores = network.scores.apply({"params": params[G]["scores"]}, BATCH.input, **options)
    truth = palettes.classes_of(labels, palette)
    expected = -jnp.take_along_axis(jax.nn.log_softmax(6 * scores), truth[..., None], -1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    label_map = network.apply({"params": params[G]}, BATCH.input, **options)
    np.testing.assert_array_equal(palettes.classes_of(label_map, palette), scores.argmax(-1))


@pytest.mark.slow
def test_bicycle_gan_is_its_two_branches(monkeypatch):
    """With the same latents, it has the terms of cVAE-GAN and cLR-GAN; gradients differ only in the frozen encoder."""
    latents, queue = jax.random.normal(jax.random.key(3), (2, 2, 5)), []
    monkeypatch.setattr(objectives, "standard_normal", lambda nets, shape: queue.pop(0))
    queue[:] = latents  # used when the shapes of the parameters are computed
    params = parameters(config_of("bicycle_gan"))

    def terms_and_gradient(objective, drawn):
        run = compiled_objective(config_of(objective))

        def total(params):
            queue[:] = drawn
            terms = run(params, BATCH).generator
            return sum(terms.values()), terms

        (_, terms), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
        return terms, gradient

    both, gradient = terms_and_gradient("bicycle_gan", latents)
    posterior, from_posterior = terms_and_gradient("cvae_gan", latents[:1])
    prior, from_prior = terms_and_gradient("clr_gan", latents[1:])
    assert both.keys() == posterior.keys() | prior.keys()
    for name, term in (posterior | prior).items():
        np.testing.assert_allclose(both[name], term, rtol=1e-5)

    def assert_close(a, b):
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(b))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * scale), a, b)

    assert_close(gradient[G], jax.tree.map(jnp.add, from_posterior[G], from_prior[G]))
    assert_close(gradient[E], from_posterior[E])  # nothing from the latent loss ...
    assert E in reached(from_prior)  # ... although it trains the encoder of cLR-GAN


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_term_of_weight_zero_is_not_there(objective):
    for player in PLAYERS:
        for term in TRAINED_BY[objective][player]:
            config = config_of(objective)
            if not hasattr(config.weights, term):
                continue
            setattr(config.weights, term, 0.0)
            params = parameters(config)
            terms = jax.eval_shape(compiled_objective(config), params, BATCH)
            assert terms.generator.keys() == TRAINED_BY[objective]["generator"].keys() - {term}
            assert terms.discriminator.keys() == TRAINED_BY[objective]["discriminator"].keys() - {term}
            discriminator = {"gan": D, "gan_prior": D_PRIOR}.get(term)
            assert discriminator not in params


def test_weights_multiply_their_terms():
    config, tripled = config_of("bicycle_gan"), config_of("bicycle_gan")
    params = parameters(config)
    before = compiled_objective(config)(params, BATCH)
    tripled.weights = dataclasses.replace(config.weights, **{term: 3 * getattr(config.weights, term) for term in before.generator})
    after = compiled_objective(tripled)(params, BATCH)
    for name, term in before.generator.items():
        np.testing.assert_allclose(after.generator[name], 3 * term, rtol=1e-5)
    for name, term in before.discriminator.items():
        np.testing.assert_allclose(after.discriminator[name], term, rtol=1e-5)  # D's loss has no weight


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_kl_is_averaged_or_summed_over_the_half(reduction):
    config = config_of("cvae_gan")
    config.kl_reduction, config.weights.gan, config.weights.l1 = reduction, 0.0, 0.0
    params = parameters(config)
    posterior = jax.jit(game_of(config).networks.encoder.apply)({"params": params[E]}, BATCH.target[:2])
    expected = config.weights.kl * getattr(losses.kl(posterior), reduction)()
    np.testing.assert_allclose(compiled_objective(config)(params, BATCH).generator["kl"], expected, rtol=1e-5)


@pytest.mark.parametrize("objective", ["cae_gan", "cvae_gan", "clr_gan", "bicycle_gan"])
def test_odd_batch_is_refused(objective):
    with pytest.raises(ValueError, match="a batch of 3 per device does not split in two halves: make data.batch_size an even number"):
        jax.eval_shape(game_of(config_of(objective)).init, jax.random.key(0), batch_of(3))


@pytest.mark.parametrize("conditional", [True, False])
def test_conditional_discriminator_sees_the_input_too(conditional):
    config = config_of("pix2pix")
    config.model.conditional, config.data.input_channels = conditional, 1
    shapes = jax.eval_shape(game_of(config).init, jax.random.key(0), batch_of(4, channels=1))
    kernel = shapes.params[D]["scales_0"]["conv_0"]["kernel"]
    assert kernel.shape[2] == (1 + 3 if conditional else 3)


def test_shared_discriminator_has_one_set_of_parameters():
    config = config_of("bicycle_gan")
    config.model.shared_discriminator = True
    game = game_of(config)
    shapes = jax.eval_shape(game.init, jax.random.key(0), batch_of(4))
    _, terms = jax.eval_shape(game.train_step, shapes, batch_of(4), jax.random.key(0))
    assert set(shapes.params) == {G, E, D}
    assert set(terms.discriminator) == {"gan", "gan_prior"}


def test_prior_branch_translates_the_first_half_and_is_compared_with_the_second():
    """Without conditional discriminators, the inputs of the second half have no effect; its targets affect only discriminator_prior."""
    config = config_of("bicycle_gan")
    config.model.conditional = False
    run, params = compiled_objective(config), parameters(config)
    other_input = run(params, BATCH._replace(input=BATCH.input.at[2:].set(0.0)))
    other_target = run(params, BATCH._replace(target=BATCH.target.at[2:].set(0.0)))
    before = run(params, BATCH)
    assert before == other_input
    assert before.generator == other_target.generator
    assert before.discriminator["gan"] == other_target.discriminator["gan"]
    assert before.discriminator["gan_prior"] != other_target.discriminator["gan_prior"]


@pytest.mark.slow
def test_gradient_penalty_reaches_the_discriminator_alone():
    def gradient(weight):
        config = config_of("cvae_gan")
        config.gan_loss, config.weights.gradient_penalty = "wgan", weight
        run = compiled_objective(config)
        return jax.jit(jax.grad(lambda params: run(params, BATCH).discriminator["gan"]))(params)

    params = parameters(config_of("cvae_gan"))
    without, with_penalty = gradient(0.0), gradient(10.0)
    for name in NETWORKS[:3]:
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(without[name]))
        change = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(jax.tree.map(jnp.subtract, with_penalty[name], without[name])))
        assert change > 0.1 * scale if name == D else change < 1e-5 * scale, name


def test_gradient_penalty_is_that_of_gulrajani(monkeypatch):
    """10 mean (|dD/dx| - 1)^2 at t * real + (1 - t) * fake, with x the concatenated input and target."""
    config = config_of("pix2pix")
    config.gan_loss, config.weights.l1, config.model.discriminator_scales = "wgan", 0.0, 1
    params, nets = parameters(config), game_of(config).networks
    t = jnp.array([0.2, 0.5, 0.7, 0.9])[:, None, None, None]
    monkeypatch.setattr(objectives.parallel, "draw", lambda *_: t)

    @jax.jit
    def expected(params):
        fake = nets.generator.apply({"params": params[G]}, BATCH.input)
        real_pair, fake_pair = (jnp.concatenate([BATCH.input, target], -1) for target in (BATCH.target, fake))

        def discriminate(pair):
            return nets.discriminator.apply({"params": params[D]}, pair)[0]

        gradient = jax.grad(lambda x: discriminate(x).sum())(t * real_pair + (1 - t) * fake_pair)
        norms = jnp.linalg.norm(gradient.reshape(4, -1), axis=1)
        return 0.5 * (discriminate(fake_pair).mean() - discriminate(real_pair).mean() + 10 * jnp.square(norms - 1).mean())

    np.testing.assert_allclose(compiled_objective(config)(params, BATCH).discriminator["gan"], expected(params), rtol=1e-4)
