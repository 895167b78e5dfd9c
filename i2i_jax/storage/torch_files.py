"""PyTorch's files of tensors by name, as NumPy arrays: the only file that uses PyTorch, which is an extra."""

import importlib
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from i2i_jax.devices import crashes

OLDEST = (2, 6)  # before it, even `weights_only` could be made to run code


class TorchFileError(ValueError):
    """A file that cannot be read as tensors by name: one line that names it, what was found and what would do."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote. Nothing in the file is executed. Raises TorchFileError."""
    path = Path(path)
    if not path.is_file():
        raise TorchFileError(f"{path}: " + ("is a folder: name its files" if path.is_dir() else "no such file"))
    torch = _torch(path)
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # of nearly any kind, in a damaged file
        if crashes.out_of_memory(error):
            raise
        if re.search("unsupported (global|class)|unrecognized function", str(error), re.IGNORECASE):
            raise TorchFileError(f"{path}: holds more than tensors, which is never loaded: save the network's state_dict()") from error
        raise TorchFileError(f"{path}: not a whole PyTorch file: cut short, or something else") from error
    if not isinstance(found, dict):
        raise TorchFileError(f"{path}: holds a {type(found).__name__}, not tensors by name: save the network's state_dict()")
    _refuse_inflated(path, torch, found)
    return {key: _array(path, torch, key, tensor) for key, tensor in found.items()}


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A file that `torch.load` reads as a state dict, whole or not at all. Raises TorchFileError."""
    path = Path(path)
    torch = _torch(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        torch.save({key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}, Path(folder) / path.name)
        os.replace(Path(folder) / path.name, path)


def _torch(path: Path) -> ModuleType:
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise TorchFileError(f'{path}: this needs PyTorch: pip install "i2i-jax[torch]"') from error
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < OLDEST:
        raise TorchFileError(f"{path}: PyTorch {torch.__version__} is too old to read files safely: 2.6 or newer is needed")
    return torch


def _refuse_compressed(path: Path) -> None:
    """`torch.save` never compresses; what does may be a thousand times as large when it is read."""
    try:
        with zipfile.ZipFile(path) as file:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an older format, or damaged
    if packed:
        raise TorchFileError(f"{path}: a compressed archive, which torch.save does not write")


def _refuse_inflated(path: Path, torch: ModuleType, found: dict) -> None:
    """Tensors may repeat one number endlessly without taking space in the file."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in found.values() if torch.is_tensor(tensor))
    if needed > path.stat().st_size:
        raise TorchFileError(f"{path}: its tensors would take {needed} bytes, more than the whole file")


def _array(path: Path, torch: ModuleType, key: Any, tensor: Any) -> np.ndarray:
    if not isinstance(key, str) or not torch.is_tensor(tensor):
        raise TorchFileError(f"{path}: {key!r:.80} is a {type(tensor).__name__}: must be a tensor, as in a network's state_dict()")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not (tensor.is_quantized or tensor.is_complex())
    if not plain:
        raise TorchFileError(f"{path}: {key!r:.80} is not a plain tensor of real numbers")
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        tensor = tensor.float()
    return tensor.resolve_neg().contiguous().numpy()
