"""What one accelerator does in eight minutes: see device.sh, which calls it. Needs nothing but Python; what the parts need may lack."""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
REFERENCES = {"bicycle_gan": "BicycleGAN", "pix2pix": "pytorch-CycleGAN-and-pix2pix"}  # clones of the public PyTorch code
GRACE = 20  # seconds that a part gets to save its work once it is asked to end
MINUTES = 8  # for all parts; with another number of --minutes, each may take as much longer or shorter
ENVIRONMENT = """
import json, shutil, subprocess, tables
if smi := shutil.which("nvidia-smi"):
    print(subprocess.run([smi], capture_output=True, text=True).stdout)
print(json.dumps(tables.provenance("optax", "orbax-checkpoint"), indent=1))
"""

# (part, path in its results, goal): a share or a ratio to reach.
GOALS = (
    ("step_bicycle_256_64", ("bicycle_256_64", "share_of_peak"), "BicycleGAN at 256 x 256, 64 pairs, bfloat16: share of the peak", 0.40),
    ("versus_bicycle_gan", ("PyTorch",), "the same, times as fast as PyTorch", 2.0),
    ("versus_bicycle_gan", ("PyTorch, compiled, bfloat16",), "the same, times as fast as compiled PyTorch in bfloat16", 1.2),
    ("versus_pix2pix", ("PyTorch",), "pix2pix at 256 x 256, 1 pair, bfloat16: times as fast as PyTorch", 3.0),
)
OURS = "ours, bfloat16"


class Part(NamedTuple):
    """A command and how many seconds of the eight minutes it may take.

    Attributes:
        writes: the name of the files with its results.
        ends_well: whether it is meant to be ended when its seconds are over.
    """

    name: str
    seconds: int
    command: list[str]
    writes: str = ""
    ends_well: bool = False


class Outcome(NamedTuple):
    """How a part ended. `state`: done, or why not; `results`: its JSON; `table`: its Markdown; `log`: the end of its output."""

    name: str
    seconds: float
    state: str
    results: Any
    table: str
    log: str


def parts(options: argparse.Namespace, run: Path) -> Iterator[Part]:
    """All parts, in the order of their value; the last one takes the time that is left."""
    small = options.rehearse
    python = [sys.executable]
    width = ["--width=2"] if small else []
    yield Part("environment", 60, [*python, "-c", ENVIRONMENT])
    for system, batch, in_a_row, seconds in (("bicycle_gan", 64, 1, 130), ("pix2pix", 1, 20, 80)):
        sizes = ["--size=128", "--batch=2", "--rounds=1", *width] if small else [f"--batch={batch}", f"--in_a_row={in_a_row}"]
        variants = "torch_bfloat16,ours_bfloat16" if small else "torch_bfloat16,torch_compiled,ours_bfloat16"
        reference = f"--reference={Path(options.references) / REFERENCES[system]}"
        command = [*python, "benchmarks/versus_torch.py", reference, f"--variants={variants}", *sizes]
        yield Part(f"versus_{system}", seconds, command, f"versus_torch_{system}_train")
    for name, seconds in {"quickstart": 60}.items() if small else {"bicycle_256_64": 80, "pix2pix_256_1": 50}.items():
        command = [*python, "benchmarks/step.py", "--dtype=bfloat16", f"--steps={name}", *width, *(["--rounds=2"] if small else [])]
        yield Part(f"step_{name}", seconds, command, f"step_{'cpu' if small else 'gpu'}_bfloat16")
    systems = ["--systems=pix2pix"] if small else []
    yield Part("agreement", 90, [*python, "benchmarks/agreement.py", *systems, *width], "agreement")
    pairs = ["--pairs=8", "--threads=1"] if small else ["--pairs=200", "--threads=1,4,16"]
    yield Part("data", 45, [*python, "benchmarks/data.py", f"--data={options.data}", "--steps=0", *pairs], "data")
    images = ["--images=2"] if small else ["--images=400"]
    yield Part("translate", 60, [*python, "benchmarks/translate.py", "--run=facades", "--size=128", "--samples=4", *images], "translate")
    yield Part("training", 60 * MINUTES, [*python, "-m", "i2i_jax", "train", *_training(options, run)], ends_well=not small)


def _training(options: argparse.Namespace, run: Path) -> list[str]:
    """The options of the last part: pix2pix draws facades from their label maps."""
    chosen: dict[str, object] = {"data.path": options.data, "data.direction": "BtoA", "model.dtype": "bfloat16", "eval.metrics": "l1"}
    chosen |= {"eval.best_metric": "l1", "train.steps": 80_000, "train.log_every": 100, "train.sample_every": 1000}
    chosen |= {"train.checkpoint_every": 5000, "train.eval_every": 5000}
    if options.rehearse:
        every = dict.fromkeys(("log_every", "sample_every", "checkpoint_every", "eval_every"), 2)
        chosen |= {f"train.{name}": value for name, value in every.items()} | {"train.steps": 2, "eval.inputs": 2}
        chosen |= {"model.width": 2, "data.load_size": 64, "data.crop_size": 64, "model.generator": "unet_64", "train.samples": 1}
    return ["--config=pix2pix:folder", f"--workdir={run}", *(f"--config.{name}={value}" for name, value in chosen.items())]


def outcome(part: Part, seconds: float, results: Path) -> Outcome:
    """Runs a part for at most so many seconds. It fails alone."""
    start = time.monotonic()
    if seconds < 5:
        return Outcome(part.name, 0.0, "not begun: no time was left", None, "", "")
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(part.command, cwd=HERE.parent, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            state = _ended(process, seconds, part.ends_well)
        finally:  # the part's processes never outlive this one
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        log = output.read().decode("utf-8", "replace")
    lines = [line for line in log.splitlines() if line.strip()]
    if state.startswith("failed") and lines:
        state = f"{state}: {lines[-1][:200]}"
    found, table = (results / f"{part.writes}.{kind}" for kind in ("json", "md"))
    written = state == "done" and part.writes and found.exists()
    return Outcome(
        part.name, time.monotonic() - start, state, json.loads(found.read_text())["results"] if written else None,
        table.read_text() if written else "", log[-4000:],
    )  # fmt: skip


def _ended(process: subprocess.Popen, seconds: float, ends_well: bool) -> str:
    """Waits for a process, and ends it and its children after so many seconds."""
    try:
        code = process.wait(seconds)
        return "done" if code == 0 else f"failed with status {code}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"killed after {seconds:.0f} s"
    return "done" if ends_well else f"ended after {seconds:.0f} s"


def goals(outcomes: dict[str, Outcome]) -> list[tuple[str, float | None, float]]:
    """(goal, measured, wanted); None where it was not measured."""
    return [(text, _measured(outcomes, name, path), wanted) for name, path, text, wanted in GOALS]


def _measured(outcomes: dict[str, Outcome], name: str, path: tuple[str, ...]) -> float | None:
    """A share of the peak by its path, or how many times as fast ours is as the one named."""
    results = outcomes[name].results if name in outcomes else None
    if not results:
        return None
    if name.startswith("step"):
        return results.get(path[0], {}).get(path[1])
    medians = {name: sorted(values)[len(values) // 2] for name, values in results["seconds"].items()}
    return medians[path[0]] / medians[OURS] if path[0] in medians and OURS in medians else None


def report(outcomes: dict[str, Outcome], rehearsed: bool) -> str:
    """The report in Markdown: goals, how the parts ended, and their tables."""
    title = "# Rehearsal on a CPU at the smallest sizes: its figures say nothing" if rehearsed else "# One accelerator, measured"
    met = [] if rehearsed else [(text, _share(found), wanted, _share(found and found / wanted)) for text, found, wanted in goals(outcomes)]
    ended = [(one.name, f"{one.seconds:.0f}", one.state) for one in outcomes.values()]
    sections = [
        f"## {one.name}\n\n{one.table}" if one.table else f"## {one.name}: end of its output\n\n```\n{one.log.strip()}\n```"
        for one in outcomes.values()
    ]
    first = [_table(("goal", "measured", "wanted", "measured / wanted"), met), _table(("part", "seconds", "ended"), ended)]
    return "\n\n".join([title, *first, *sections]) + "\n"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in cells)


def keep_run(run: Path, output: Path) -> None:
    """Copies the figures, the page and the newest pictures of the trained run."""
    samples = sorted(run.glob("samples/*.png"))
    for source, name in [(run / "metrics.jsonl", "metrics.jsonl"), *((path, "samples.png") for path in samples[-1:])]:
        if source.exists():
            shutil.copy(source, output / name)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = parsed()
    end, scale = time.monotonic() + 60 * options.minutes, options.minutes / MINUTES
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        results, run, outcomes = Path(temporary) / "results", Path(temporary) / "run", {}
        results.mkdir()
        os.environ |= {"I2I_RESULTS": str(results), "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(temporary) / "compiled"))
        for part in parts(options, run):
            left = end - time.monotonic() - GRACE - (0 if part.name == "training" else 60 * scale)
            outcomes[part.name] = outcome(part, min(part.seconds * scale, left), results)
            print(f"{part.name}: {outcomes[part.name].state}, {outcomes[part.name].seconds:.0f} s", flush=True)
            keep_run(run, output)
            (output / "report.md").write_text(report(outcomes, options.rehearse))
            record = {"finished": datetime.datetime.now(datetime.UTC).isoformat(), "parts": [one._asdict() for one in outcomes.values()]}
            (output / "report.json").write_text(json.dumps(record, indent=1))
    return 0 if all(one.state == "done" for one in outcomes.values()) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="device.sh", description=__doc__)
    parser.add_argument("--output", default=os.environ.get("OUT"), help="folder for report.md, report.json, samples.png and metrics.jsonl")
    parser.add_argument("--data", required=True, help="a folder of side-by-side pairs: facades, photo left and labels right")
    parser.add_argument("--references", default="references", help=f"folder with clones {' and '.join(REFERENCES.values())}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--rehearse", action="store_true", help="everything on the CPU, at the smallest sizes")
    options = parser.parse_args()
    if not options.output:
        parser.error("--output is missing: the folder to write to")
    if not Path(options.data).is_dir():
        parser.error(f"--data is {options.data}: no such folder")
    options.data, options.references = (str(Path(path).resolve()) for path in (options.data, options.references))
    if options.rehearse:
        os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return options


if __name__ == "__main__":
    sys.exit(main())
