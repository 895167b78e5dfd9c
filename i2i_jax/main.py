"""Training: python -m i2i_jax train --config=NAME[:DATASET] [--workdir=RUN] [--config.SECTION.OPTION=VALUE ...]

i2i train --config=bicycle                                                    on the embedded shapes
i2i train --config=pix2pix:folder --config.data.path=PAIRS                    on your own pairs
i2i train --config=bicycle:facades --config.train.steps=9000 --workdir=RUN
i2i train --config=mine.py                                                    a file of your own, with get_config
The same command resumes a run that was interrupted. `i2i config bicycle` shows every option.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from i2i_jax import configs
from i2i_jax.commands import app
from i2i_jax.config import Config, ConfigError, Size, validate

LESS_MEMORY = "a smaller data.batch_size, more train.microbatches, train.rematerialize=True or a smaller data.crop_size needs less"


class _ConfigParser(flags.ArgumentParser):
    """Reads a config by its name too; ml_collections' own parser knows files only."""

    def parse(self, argument: str) -> Config:
        return configs.read(argument, option="--config=")


class _SizeParser(flags.ArgumentParser):
    """Reads a size: a number, or HEIGHTxWIDTH, which `config.validate` checks."""

    def parse(self, argument: int | str) -> int | str:
        return argument


config_flags.register_flag_parser_for_type(Size, _SizeParser())
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    f"One of {', '.join(configs.NAMES)}, or a file, with :DATASET after it to choose the data; single options as --config.data.path=DIR.",
)
flags.FLAGS["config"].parser = _ConfigParser()
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, created or resumed (default: runs/CONFIG-DATASET).")
_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", None, "This is one of several processes, found by jax (default: if SLURM, Open MPI or GKE started several)."
)
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "With several processes: HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With several processes: their number.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With several processes: the number of this one, from 0.")


def main(argv: Sequence[str]) -> None:
    config = _config()
    named = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = Path(_WORKDIR.value or f"runs/{Path(named.split(':')[0]).stem}-{config.data.name}")
    from i2i_jax import training
    from i2i_jax.devices import processes  # after the options are known to be good: it takes seconds

    with processes.connected(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, distributed=_DISTRIBUTED.value):
        processes.print_once(f"run folder: {workdir}")
        try:
            training.train(config, workdir, command=shlex.join(["i2i", "train", *sys.argv[1:]]))
        except training.Stopped as stopped:
            processes.print_once(str(stopped))
        else:
            processes.print_once(f"done: open {workdir / 'index.html'}")


def _config() -> Config:
    if _CONFIG.value is None:
        raise ConfigError(f"no --config: one of {', '.join(configs.NAMES)}, or a file")
    return validate(_CONFIG.value)


def cli() -> None:
    app.run(main, less_memory=LESS_MEMORY)


if __name__ == "__main__":
    cli()
