"""What the configs share: the data section of each set, and the networks of the two papers."""

from i2i_jax.config import DATASETS, OPTIONS, Config, ConfigError, DataConfig, nearest

# Training pairs; BicycleGAN's load size, input channels and epochs; pix2pix's epochs and batch (as in the originals' scripts).
PUBLIC_SETS = {
    "facades": {"pairs": 400, "direction": "BtoA", "load_size": 286, "channels": 3, "epochs": 400, "pix2pix": (200, 1)},
    "maps": {"pairs": 1096, "direction": "BtoA", "load_size": 600, "channels": 3, "epochs": 400, "pix2pix": (200, 1)},
    "cityscapes": {"pairs": 2975, "direction": "BtoA", "load_size": 286, "channels": 3, "epochs": 200, "pix2pix": (200, 1)},
    "edges2shoes": {"pairs": 49_825, "direction": "AtoB", "load_size": 256, "channels": 1, "epochs": 60, "pix2pix": (15, 4)},
    "edges2handbags": {"pairs": 138_567, "direction": "AtoB", "load_size": 256, "channels": 1, "epochs": 30, "pix2pix": (15, 4)},
    "night2day": {"pairs": 17_823, "direction": "AtoB", "load_size": 286, "channels": 3, "epochs": 100, "pix2pix": (17, 4)},
}


def bicycle_family(objective: str, dataset: str) -> Config:
    """BicycleGAN's networks and training (Zhu 2017 and its public code) on `dataset`; small ones on the embedded `shapes`.

    The discriminators are conditional, as the paper's equations have it, on `shapes` and `folder`; on the public sets they are
    not, as in the code's scripts.
    """
    config = Config(objective=objective)
    config.data = _data(dataset)
    if dataset in PUBLIC_SETS:
        public = PUBLIC_SETS[dataset]
        config.data.load_size, config.data.input_channels = public["load_size"], public["channels"]
        config.model.conditional = False
        config.optimizer.held_for = public["pairs"] // config.data.batch_size  # the last batch is skipped where it is not whole
        config.train.steps = public["epochs"] * config.optimizer.held_for
    if dataset == "shapes":
        _small(config)
        # Six answers to an input. A latent of two numbers is one that the encoder can recover from the output; with weights that
        # are not tiny the encoder tells the answers apart from the start; a strong prior branch makes its images sharp.
        config.model.latent_dim, config.model.init_gain = 2, 1.0
        config.weights.gan_prior, config.weights.kl = 2.0, 0.005
        config.optimizer.learning_rate = 5e-4
        config.eval.best_metric, config.train.samples = "total_variation", 8
    return config


def pix2pix(dataset: str) -> Config:
    """pix2pix's networks and training (Isola 2017 and its PyTorch code) on `dataset`; small ones on the embedded `shapes`."""
    config = Config(objective="pix2pix", update="alternating", gan_loss="vanilla")
    config.data = _data(dataset)
    config.data.batch_size = 1
    config.weights.l1 = 100.0
    config.model.norm, config.model.skip_order, config.model.initializer = "batch", "encoder_first", "normal"
    config.model.dropout = config.sampling.dropout = True
    config.model.discriminator_scales = 1
    if dataset in PUBLIC_SETS:
        public = PUBLIC_SETS[dataset]
        epochs, config.data.batch_size = public["pix2pix"]
        config.optimizer.held_for, config.optimizer.decay_early = -(-public["pairs"] // config.data.batch_size), True
        config.train.steps = epochs * config.optimizer.held_for
    if dataset == "shapes":
        _small(config)
    return config


def segmenter(dataset: str) -> Config:
    """What the metric `segmentation` asks: pix2pix's generator, without noise, from a target back to its label map."""
    config = pix2pix(dataset)
    config.objective, config.update = "segmenter", "simultaneous"
    config.data.direction = {"AtoB": "BtoA", "BtoA": "AtoB"}[config.data.direction]
    config.data.palette = dataset if dataset in OPTIONS["data.palette"].choices else "facades"
    config.model.norm = "instance"
    config.model.dropout = config.sampling.dropout = False
    config.optimizer.beta1 = 0.9  # Adam's own; the lower one is for games
    return config


def _data(dataset: str) -> DataConfig:
    if dataset not in DATASETS:
        raise ConfigError(f"unknown dataset {dataset!r}: one of {', '.join(DATASETS)}{nearest(dataset, DATASETS)}")
    data = DataConfig(name=dataset)
    if dataset in PUBLIC_SETS:
        data.direction = PUBLIC_SETS[dataset]["direction"]
    return data


def _small(config: Config) -> None:
    """Makes the networks those of 64-pixel images, which train on a laptop's CPU in minutes."""
    data, model, train = config.data, config.model, config.train
    data.load_size = data.crop_size = 64
    data.batch_size = 4
    model.generator, model.encoder, model.width = "unet_64", "resnet_64", 16
    model.discriminator_layers = 2
    train.steps, train.log_every, train.sample_every, train.checkpoint_every, train.eval_every = 5_000, 100, 500, 500, 1_000
    config.eval.inputs, config.eval.samples = 20, 32
