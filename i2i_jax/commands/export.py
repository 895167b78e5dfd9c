"""Exports a generator for programs that do not have this package: python -m i2i_jax export --run=RUN --out=FILE [--format=onnx]

StableHLO is for programs with jax. ONNX is for onnxruntime and what else reads it; the encoder of a run that has one is written too, to
FILE.encoder.onnx beside FILE.onnx. --format=web writes a folder: a page to draw on, which computes the pictures in the visitor's browser.

i2i export --run=runs/bicycle-shapes --out=shapes.stablehlo
i2i export --run=runs/bicycle-shapes --format=onnx --out=shapes.onnx
i2i export --run=runs/bicycle-shapes --format=onnx --dtype=float16 --out=shapes.onnx     half the size
i2i export --run=facades --format=web --out=painter                                     then: python -m http.server -d painter
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import ConfigError

_RUN = flags.DEFINE_string("run", None, f"The trained run: {app.RUN}.", required=True)
_OUT = flags.DEFINE_string(
    "out", None, "The file to write; FILE.json beside it describes how to use it. For web: a new folder.", required=True
)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")
_FORMAT = flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx", "web"], "stablehlo; onnx or web (extra `onnx`).")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "The numbers in an ONNX file; float16 halves it.")
_EXAMPLE = flags.DEFINE_string("example", None, "For web: the input that is shown when the page opens.")
_RUNTIME = flags.DEFINE_string(
    "onnxruntime_web", None, "For web: a folder with the npm package onnxruntime-web (default: npm downloads it once)."
)


def main(argv: Sequence[str]) -> None:
    from i2i_jax.inference import model
    from i2i_jax.interop import export, export_onnx, export_web

    out = Path(_OUT.value or "")
    _check_options(out)
    loaded = model.load(_RUN.value or "", step=app.parse_step(_STEP.value))
    if _FORMAT.value == "stablehlo":
        difference = export.to_stablehlo(loaded, out)
        print(f"exported to {out}, {_megabytes(out)}; its images differ from the model's by at most {difference:.2g}")
        return
    if _FORMAT.value == "onnx":
        differences = export_onnx.to_onnx(loaded, out, dtype=_DTYPE.value)
    else:
        runtime, example = (Path(flag.value) if flag.value else None for flag in (_RUNTIME, _EXAMPLE))
        name = Path(_RUN.value or "").resolve().name.removesuffix(".safetensors")
        differences = export_web.to_web(loaded, out, name=name, runtime=runtime, example=example, dtype=_DTYPE.value)
    for file, difference in differences.items():
        print(f"exported to {file}, {_megabytes(file)}; its numbers differ from the model's by at most {difference:.2g} of the largest")
    if _FORMAT.value == "web":
        print(f"open the address that this prints: python -m http.server --directory {shlex.quote(str(out))}")


def _check_options(out: Path) -> None:
    if _FORMAT.value != "web" and out.is_dir():
        raise ConfigError(f"--out: {out} is a folder: name a file in it")
    if _FORMAT.value == "stablehlo" and _DTYPE.value != "float32":
        raise ConfigError(f"--dtype={_DTYPE.value} applies to --format=onnx and web only")
    for flag in (_EXAMPLE, _RUNTIME):
        if flag.value and _FORMAT.value != "web":
            raise ConfigError(f"--{flag.name}={flag.value} applies to --format=web only")


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"


def cli() -> None:
    app.run(main)
