"""Converts checkpoints of the original PyTorch projects, pix2pix and BicycleGAN, to a run, or a run to such files:

python -m i2i_jax convert --from=torch FILE... --out=RUN [--config.SECTION.OPTION=VALUE ...]
python -m i2i_jax convert --to=torch --run=RUN --out=DIR

i2i convert --from=torch latest_net_G.pth latest_net_E.pth --out=runs/imported
i2i convert --to=torch --run=runs/bicycle-shapes --step=best --out=checkpoints/shapes

Needs the extra `torch`.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError

_FROM = flags.DEFINE_enum(
    "from", None, ["torch"], "Read FILE..., PyTorch checkpoints: latest_net_G.pth and, if there are any, ..._E, ..._D, ..._D2."
)
_TO = flags.DEFINE_enum("to", None, ["torch"], "Write the networks of --run as PyTorch checkpoints.")
_RUN = flags.DEFINE_string("run", None, f"With --to: the run to convert: {app.RUN}.")
_STEP = flags.DEFINE_string("step", None, "With --to: the checkpoint of the run, a step or `best` (default: the newest).")
_OUT = flags.DEFINE_string("out", None, "The folder to create: the new run, or the PyTorch checkpoints.", required=True)

app.define_config_options()


def main(argv: Sequence[str]) -> None:
    out, files = Path(_OUT.value or ""), [Path(name) for name in argv[1:]]
    if bool(_FROM.value) == bool(_TO.value):
        raise ConfigError("give --from=torch FILE... --out=RUN, or --to=torch --run=RUN --out=DIR")
    if _FROM.value and (not files or _RUN.value or _STEP.value):
        raise ConfigError("--from=torch takes files, for example latest_net_G.pth latest_net_E.pth, but no --run and no --step")
    if _TO.value and (files or not _RUN.value or app.config_options()):
        raise ConfigError("--to=torch takes --run=RUN, but no files and no --config")
    from i2i_jax.interop import conversion

    if _TO.value:
        written = conversion.to_torch(_RUN.value or "", out, step=app.parse_step(_STEP.value))
        print("written: " + ", ".join(map(str, written)))
        return
    config, assumed, sources = conversion.from_torch(files, out, app.config_options())
    networks = _descriptions(config)
    print(f"{config.objective}, {config.data.input_channels} to {config.data.target_channels} channels, {config.model.norm} norm")
    print(*(f"  {role:<17} {networks[role]}   {file}" for role, file in sources.items()), sep="\n")
    print("The files do not contain these options; if one is wrong, convert again with the right value:")
    print(*(f"  --config.{name}={value}" for name, value in assumed.items()), sep="\n")
    print(f"run folder: {out}")


def _descriptions(config: Config) -> dict[str, str]:
    """One line about each network."""
    model = config.model
    z = "" if config.objective in WITHOUT_LATENT else f", z of {model.latent_dim} at {model.latent_at}"
    sees = "sees input and output" if model.conditional else "sees the output"
    discriminator = f"{model.discriminator} of {model.discriminator_layers} layers, {model.discriminator_scales} scales"
    return {
        "generator": f"{model.generator}, width {model.width}{z}, upsample {model.upsample}, skip_order {model.skip_order}",
        "encoder": f"{model.encoder}, width {model.encoder_width}",
        **dict.fromkeys(("discriminator", "discriminator_prior"), f"{discriminator}, width {model.discriminator_width}, {sees}"),
    }


def cli() -> None:
    app.run(main, files=True)
