"""Packed models on the Hugging Face hub, by name: hf://USER/NAME. The only file that uses its library, which is an extra."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from i2i_jax import optional

SCHEME = "hf://"
MODEL = "model.safetensors"  # the packed model's name in every repository


class HubError(ValueError):
    """A model that the hub does not give or take: one line that names it and what would do."""


def local(run: str | Path) -> str | Path:
    """The file of a model that is on the hub, fetched into the hub's cache if it is not there; any other run as it is. Raises HubError."""
    if not str(run).startswith(SCHEME):
        return run
    library = _library()
    with _one_line(run):
        return library.hf_hub_download(_repository(run), MODEL)


def push(folder: Path, to: str) -> str:
    """Uploads the files of `folder` as one commit; returns the address of the model's page. A new repository is private."""
    hub = _library().HfApi()
    with _one_line(to):
        page = hub.create_repo(_repository(to), private=True, exist_ok=True)
        hub.upload_folder(repo_id=_repository(to), folder_path=folder, commit_message="Model of i2i_jax")
    return str(page)


def _repository(name: str | Path) -> str:
    repository = str(name).removeprefix(SCHEME)
    if not str(name).startswith(SCHEME) or repository.count("/") != 1 or "" in repository.split("/"):
        raise HubError(f"{name}: is no name of a model on the hub: must be {SCHEME}USER/NAME")
    return repository


def _library() -> Any:
    return optional.library("huggingface_hub", "hub")


@contextlib.contextmanager
def _one_line(name: str | Path) -> Iterator[None]:
    """Around what the library does: its warnings are about what a HubError says, and its bars are for people."""
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
        errors.LocalTokenNotFoundError: "needs you to be known to the hub: log in with `hf auth login`",
    }
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the library's own, and those of the one that it speaks HTTP by
        reason = next((text for kind, text in advice.items() if isinstance(error, kind)), None)
        because = f"{error} {error.__cause__ or ''}"
        raise HubError(f"{name}: {reason or ' '.join(because.split())}") from error
