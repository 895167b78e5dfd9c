"""Lists the trained models that come with the package: python -m i2i_jax models [--card=NAME]

i2i models
i2i models --card=facades                                           data, command, figures and limits
i2i translate --run=facades --input=maps --output=OUT --samples=5   a name is a run wherever one is asked for
"""

from collections.abc import Sequence

from absl import flags

from i2i_jax import pretrained
from i2i_jax.commands import app

_CARD = flags.DEFINE_enum("card", None, pretrained.NAMES, "Print the card of this model instead.")


def main(argv: Sequence[str]) -> None:
    with app.ignore_closed_pipe():
        print(pretrained.card(_CARD.value).strip() if _CARD.value else "\n\n".join(map(_described, pretrained.NAMES)))
        if not _CARD.value:
            print("\nA name is a run: i2i translate --run=NAME; i2i models --card=NAME prints data, figures and limits.")


def _described(name: str) -> str:
    """Name, system and size, and what it does."""
    from i2i_jax import build

    config, megabytes = build.read_config(name), pretrained.file(name).stat().st_size / 1e6
    return f"{name}: {config.objective}, {config.data.crop_size} px, {megabytes:.1f} MB\n  {pretrained.description(name)}"


def cli() -> None:
    app.run(main)
