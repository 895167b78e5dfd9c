"""What the configs have in common: the data options of each dataset, and the networks and training of the two papers."""

from i2i_jax.config import DATASETS, OPTIONS, Config, ConfigError, DataConfig, nearest

# For each public dataset: number of training pairs, direction, BicycleGAN's load size, input channels and epochs, and pix2pix's
# (epochs, batch size), all as in the training scripts of the original code.
PUBLIC_SETS = {
    "facades": {"pairs": 400, "direction": "BtoA", "load_size": 286, "channels": 3, "epochs": 400, "pix2pix": (200, 1)},
    "maps": {"pairs": 1096, "direction": "BtoA", "load_size": 600, "channels": 3, "epochs": 400, "pix2pix": (200, 1)},
    "cityscapes": {"pairs": 2975, "direction": "BtoA", "load_size": 286, "channels": 3, "epochs": 200, "pix2pix": (200, 1)},
    "edges2shoes": {"pairs": 49_825, "direction": "AtoB", "load_size": 256, "channels": 1, "epochs": 60, "pix2pix": (15, 4)},
    "edges2handbags": {"pairs": 138_567, "direction": "AtoB", "load_size": 256, "channels": 1, "epochs": 30, "pix2pix": (15, 4)},
    "night2day": {"pairs": 17_823, "direction": "AtoB", "load_size": 286, "channels": 3, "epochs": 100, "pix2pix": (17, 4)},
}


def bicycle_family(objective: str, dataset: str) -> Config:
    """Returns a config with the networks and training of BicycleGAN (Zhu 2017 and its public code).

    On `shapes` and `folder` the discriminators are conditional, as in the paper's equations. On the public datasets they are not, as
    in the scripts of the code. On `shapes` the networks are small.

    Args:
        objective: bicycle_gan, cvae_gan, clr_gan, cae_gan or pix2pix_noise.
        dataset: name of the dataset, one of `config.DATASETS`.

    Raises:
        ConfigError: if the dataset is unknown.
    """
    config = Config(objective=objective)
    config.data = _data(dataset)
    if dataset in PUBLIC_SETS:
        public = PUBLIC_SETS[dataset]
        config.data.load_size, config.data.input_channels = public["load_size"], public["channels"]
        config.model.conditional = False
        config.optimizer.held_for = public["pairs"] // config.data.batch_size  # an incomplete last batch is skipped
        config.train.steps = public["epochs"] * config.optimizer.held_for
    if dataset == "shapes":
        _small(config)
        # Each input has six possible targets. The encoder can recover a latent of two dimensions from the output; with larger initial
        # weights it distinguishes the targets from the start. A constant standard deviation keeps the latents of two targets apart, and a
        # large weight of KL keeps all near the origin: each target gets its share of random latents. A large weight of the prior branch
        # and a discriminator that sees the whole image make its images sharp, and nearest upsampling leaves no grid in them.
        config.model.latent_dim, config.model.init_gain = 2, 1.0
        config.model.posterior_std, config.weights.kl = 0.25, 0.03
        config.weights.gan_prior, config.model.discriminator_scales = 2.0, 3
        config.model.upsample = "nearest"
        config.optimizer.learning_rate = 5e-4
        config.eval.best_metric, config.train.samples = "total_variation", 8
    return config


def pix2pix(dataset: str) -> Config:
    """Returns a config with the networks and training of pix2pix (Isola 2017 and its PyTorch code), small networks on `shapes`.

    Args:
        dataset: name of the dataset, one of `config.DATASETS`.

    Raises:
        ConfigError: if the dataset is unknown.
    """
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


def tuned(config: Config) -> Config:
    """Changes a config of either paper to what later work found, and returns it; everything else stays as it is.

    Nearest-neighbour upsampling leaves no checkerboards (Odena 2016), and the images are those of an average of the weights (Yazıcı 2019).
    With a constant standard deviation, the latents of different targets keep their distance (Ghosh 2020). Mode seeking makes the images of
    two latents differ (Mao 2019). It ends after 70 % of the steps, since images otherwise depend on the latent alone.
    """
    config.model.upsample, config.train.ema = "nearest", 0.999
    if config.objective == "bicycle_gan":
        config.model.posterior_std = 0.25
        config.weights.mode_seeking, config.weights.mode_seeking_until = 0.05, 0.7
    return config


def segmenter(dataset: str) -> Config:
    """Returns the config of a segmenter for the metric `segmentation`: pix2pix's generator, from a photo to its label map.

    The direction of the dataset is reversed. There is no dropout and no adversarial loss.

    Args:
        dataset: name of the dataset, one of `config.DATASETS`.

    Raises:
        ConfigError: if the dataset is unknown.
    """
    config = pix2pix(dataset)
    config.objective, config.update = "segmenter", "simultaneous"
    config.data.direction = {"AtoB": "BtoA", "BtoA": "AtoB"}[config.data.direction]
    config.data.palette = dataset if dataset in OPTIONS["data.palette"].choices else "facades"
    config.model.norm = "instance"
    config.model.dropout = config.sampling.dropout = False
    config.optimizer.beta1 = 0.9  # Adam's default; the lower value is for GANs
    return config


def _data(dataset: str) -> DataConfig:
    """The data options of a dataset. Raises ConfigError."""
    if dataset not in DATASETS:
        raise ConfigError(f"unknown dataset {dataset!r}: one of {', '.join(DATASETS)}{nearest(dataset, DATASETS)}")
    data = DataConfig(name=dataset)
    if dataset in PUBLIC_SETS:
        data.direction = PUBLIC_SETS[dataset]["direction"]
    return data


def _small(config: Config) -> None:
    """Changes `config` to small networks for images of 64 x 64 pixels, which train on a laptop's CPU in minutes."""
    data, model, train = config.data, config.model, config.train
    data.load_size = data.crop_size = 64
    data.batch_size = 4
    model.generator, model.encoder, model.width = "unet_64", "resnet_64", 16
    model.discriminator_layers = 2
    train.steps, train.log_every, train.sample_every, train.checkpoint_every, train.eval_every = 5_000, 100, 500, 500, 1_000
    config.eval.inputs, config.eval.samples = 20, 32
