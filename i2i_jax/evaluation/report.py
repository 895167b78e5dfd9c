"""The results of an evaluation: as lines of text, as JSON, and as a page with contact sheets."""

import itertools
import json
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tqdm import tqdm

from i2i_jax.config import HIGHER_IS_BETTER
from i2i_jax.evaluation import contact_sheets, evaluate
from i2i_jax.evaluation.evaluate import EvalBatch, Evaluation
from i2i_jax.evaluation.subjects import Subject
from i2i_jax.pages.evaluation import write_evaluation
from i2i_jax.pages.run import write_run
from i2i_jax.storage import files
from i2i_jax.storage.metrics_file import as_json

SHEET_ROWS = 6  # examples on each contact sheet
LIBRARIES = ("i2i-jax", "jax", "flax", "numpy")


def measure(subject: Subject) -> Evaluation:
    """Returns the figures of the subject, with its notes, while a progress bar counts the examples."""
    with tqdm(total=subject.total, unit="example", leave=False, disable=None) as progress:
        evaluation = evaluate.evaluate(_counted(subject.batches, progress), subject.metrics)
    return evaluation._replace(notes=[*subject.notes, *evaluation.notes])


def _counted(batches: Iterator[EvalBatch], progress: Any) -> Iterator[EvalBatch]:
    for batch in batches:
        yield batch
        progress.update(batch.count)


def lines(subject: Subject, evaluation: Evaluation) -> list[str]:
    """Returns the protocol, the figures with their standard errors, and the notes, as the command prints them."""
    errors = evaluation.standard_errors()
    protocol = ", ".join(f"{name} {value}" for name, value in subject.protocol.items())
    figures = [
        f"{name:<24} {value:.4f}" + (f"  ± {errors[name]:.4f}" if name in errors else "")
        for name, value in evaluation.figures.items()
        if isinstance(value, float)
    ]
    return [protocol, *figures, *(f"note: {note}" for note in evaluation.notes)]


def write(subject: Subject, evaluation: Evaluation) -> Path | None:
    """Writes PLACE.json, PLACE.html and contact sheets in PLACE/; a run's page then lists the evaluation.

    PLACE is `subject.destination`, with a number appended if that holds an evaluation under another protocol.

    Returns:
        The path of the JSON file, or None if the subject has no destination.

    Raises:
        OSError: if a file cannot be written.
    """
    if subject.destination is None:
        return None
    weights = {file: sha256 for metric in subject.metrics.values() for file, sha256 in metric.weights.items()}
    sizes = {name: metric.image_size for name, metric in subject.metrics.items() if metric.image_size}
    question = {**subject.protocol, "metrics": list(subject.metrics), "weights": weights, **({"image_sizes": sizes} if sizes else {})}
    place = _free_place(subject.destination, question)
    sheets = _write_sheets(place, subject, evaluation)
    results = {
        **question,
        "figures": {
            name: [as_json(x) for x in figure] if isinstance(figure, list) else as_json(figure)
            for name, figure in evaluation.figures.items()
        },
        "standard_errors": evaluation.standard_errors(),
        "notes": evaluation.notes,
        "versions": _versions(),
    }
    files.atomic_write(Path(f"{place}.json"), (json.dumps(results, indent=2, allow_nan=False) + "\n").encode())
    write_evaluation(Path(f"{place}.html"), results, sheets, title=subject.title)
    if subject.run_folder:
        write_run(subject.run_folder)
    return Path(f"{place}.json")


def _free_place(first: Path, question: dict[str, Any]) -> Path:
    """The first of FIRST, FIRST_2, FIRST_3 ... with no JSON file, or with one that answers the same question and is replaced."""
    places = itertools.chain([first], (first.with_name(f"{first.name}_{number}") for number in itertools.count(2)))
    return next(place for place in places if _is_free(Path(f"{place}.json"), question))


def _is_free(path: Path, question: dict[str, Any]) -> bool:
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return isinstance(stored, dict) and question.items() <= stored.items()


def _write_sheets(place: Path, subject: Subject, evaluation: Evaluation) -> dict[str, Path]:
    """Writes the contact sheets; returns them by title."""
    if subject.examples_at is None:
        return {}
    sheets = {}
    for title, indices in _rows_by_title(subject.total, evaluation).items():
        sheets[title] = place / f"{title.split()[0]}.png"
        contact_sheets.save(sheets[title], subject.examples_at(indices))
    return sheets


def _rows_by_title(total: int, evaluation: Evaluation) -> dict[str, list[int]]:
    """Indices of the first examples, and of the best and worst by the first figure that is known for each example."""
    rows = {"first": list(range(min(SHEET_ROWS, total)))}
    ranked = next((name for name in evaluation.by_example if name in HIGHER_IS_BETTER), None)
    if ranked is not None:
        ascending = evaluation.by_example[ranked].argsort(kind="stable").tolist()
        best_first = ascending[::-1] if HIGHER_IS_BETTER[ranked] else ascending
        rows |= {f"best by {ranked}": best_first[:SHEET_ROWS], f"worst by {ranked}": best_first[: -SHEET_ROWS - 1 : -1]}
    return rows


def _versions() -> dict[str, str]:
    installed = {distribution.name: distribution.version for distribution in distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}
