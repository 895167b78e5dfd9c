"""Packed models on the Hugging Face hub, as hf://USER/NAME. The only file that uses the hub's library, which is an extra."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from i2i_jax import optional, pretrained

SCHEME = "hf://"
MODEL = "model.safetensors"  # the packed model's file name in a repository


class HubError(ValueError):
    """A model cannot be downloaded or uploaded: one line that names it and what to do."""


def local(run: str | Path) -> str | Path:
    """Finds the files of a run. Downloads a model from the hub, unless it is in the hub's cache already.

    Args:
        run: hf://USER/NAME, the name of a model in the package (see `pretrained.resolve`), or any other path, which is returned unchanged.

    Returns:
        The path of the packed model or run folder.

    Raises:
        HubError: if the hub has no such model or cannot be reached.
        MissingExtra: if the hub's library is not installed.
    """
    if not str(run).startswith(SCHEME):
        return pretrained.resolve(run)
    library = _library()
    with _one_line(run):
        return library.hf_hub_download(_repository(run), MODEL)


def push(folder: Path, to: str) -> str:
    """Uploads a folder as one commit, into a private repository if there is none of this name.

    Args:
        folder: the folder whose files are uploaded.
        to: the repository, as hf://USER/NAME.

    Returns:
        The URL of the model's page.

    Raises:
        HubError: if the hub cannot be reached or refuses the files.
        MissingExtra: if the hub's library is not installed.
    """
    hub = _library().HfApi()
    with _one_line(to):
        page = hub.create_repo(_repository(to), private=True, exist_ok=True)
        hub.upload_folder(repo_id=_repository(to), folder_path=folder, commit_message="Model of i2i_jax")
    return str(page)


def _repository(name: str | Path) -> str:
    repository = str(name).removeprefix(SCHEME)
    if not str(name).startswith(SCHEME) or repository.count("/") != 1 or "" in repository.split("/"):
        raise HubError(f"{name}: is not the name of a model on the hub: must be {SCHEME}USER/NAME")
    return repository


def _library() -> Any:
    return optional.library("huggingface_hub", "hub")


@contextlib.contextmanager
def _one_line(name: str | Path) -> Iterator[None]:
    """Runs the library inside the block: its errors become HubError, its warnings are silenced, no progress bars outside a terminal."""
    with contextlib.ExitStack() as stack:
        logs = importlib.import_module("huggingface_hub.utils.logging")
        stack.callback(logs.set_verbosity, logs.get_verbosity())
        logs.set_verbosity_error()
        utils = importlib.import_module("huggingface_hub.utils")
        if not (sys.stderr.isatty() or utils.are_progress_bars_disabled()):
            utils.disable_progress_bars()
            stack.callback(utils.enable_progress_bars)
        stack.enter_context(_as_hub_error(name))
        yield


@contextlib.contextmanager
def _as_hub_error(name: str | Path) -> Iterator[None]:
    errors = importlib.import_module("huggingface_hub.errors")
    advice = {
        errors.LocalEntryNotFoundError: "cannot be reached, and is not in the cache",
        errors.EntryNotFoundError: f"holds no {MODEL}: `i2i_jax push` writes one",
        errors.RepositoryNotFoundError: "is not on the hub, or not yours: look at the name, and log in with `hf auth login`",
        errors.LocalTokenNotFoundError: "needs a login: log in to the hub with `hf auth login`",
    }
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # of the library, or of the HTTP library that it uses
        reason = next((text for kind, text in advice.items() if isinstance(error, kind)), None)
        details = f"{error} {error.__cause__ or ''}"
        raise HubError(f"{name}: {reason or ' '.join(details.split())}") from error
