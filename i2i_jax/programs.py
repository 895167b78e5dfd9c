"""Programs that one process traces and the next ones read: the Python of a training step takes seconds, each time anew."""

import contextlib
import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax import export

from i2i_jax import files, processes


def traced_once(step: Callable, origin: str) -> Callable:
    """`step(state, batch, key) -> (state, metrics)`, read from the local folder of compiled programs where it was traced before.

    `origin` tells all that the step depends on, beside the kinds of its arguments, this package's code and jax's options. Where
    there is no such folder it is the step itself.
    """
    options = jax.config.values
    folder = options["jax_compilation_cache_dir"]
    if not folder or "://" in folder or not options["jax_enable_compilation_cache"]:
        return step

    def read(*arguments: Any) -> Any:
        leaves, form = jax.tree.flatten(arguments)
        kinds = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

        def of_leaves(*leaves: jax.Array) -> tuple[list[jax.Array], Any]:
            state, metrics = step(*form.unflatten(leaves))
            return jax.tree.leaves(state), metrics

        file = Path(folder) / f"{_digest(origin, form, kinds)}.traced"
        program = _whole(file)
        if program is None:
            program = bytes(export.export(jax.jit(of_leaves))(*kinds).serialize())
            with contextlib.suppress(OSError):  # the next process traces again
                files.atomic_write(file, hashlib.sha256(program).digest() + program)
        state, metrics = export.deserialize(bytearray(program)).call(*leaves)
        return jax.tree.structure(arguments[0]).unflatten(state), metrics

    return read


def _whole(file: Path) -> bytes | None:
    """What is in a file behind its checksum; None where it is damaged, or not there."""
    content = file.read_bytes() if file.exists() else b""
    checksum, program = content[:32], content[32:]
    return program if hashlib.sha256(program).digest() == checksum else None


def _digest(*what: Any) -> str:
    libraries = [version(name) for name in ("jax", "jaxlib", "flax", "optax")]
    options = sorted(jax.config.values.items(), key=lambda option: option[0])
    return hashlib.sha256(repr((what, processes.code(), libraries, options, jax.default_backend())).encode()).hexdigest()
