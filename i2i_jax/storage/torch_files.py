"""PyTorch's state dict files as NumPy arrays. The only file that uses PyTorch, which is an extra."""

import importlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from i2i_jax.devices import crashes
from i2i_jax.storage import files

OLDEST = (2, 6)  # in older versions, a crafted file runs code in spite of `weights_only`


class TorchFileError(ValueError):
    """A file that is not a state dict, or cannot be read: one line that names it, what was found and what is needed."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote. Nothing in the file is executed.

    Args:
        path: the file.

    Returns:
        The tensors by name: float64 stays, all other floating-point types become float32.

    Raises:
        TorchFileError: if the file is missing, damaged or holds anything but tensors, or PyTorch is missing or too old.
    """
    path = Path(path)
    if not path.is_file():
        raise TorchFileError(f"{path}: " + ("is a folder: name its files" if path.is_dir() else "no such file"))
    torch = _torch(path)
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged files raise nearly any type
        if crashes.out_of_memory(error):
            raise
        if re.search("unsupported (global|class)|unrecognized function", str(error), re.IGNORECASE):
            raise TorchFileError(f"{path}: holds more than tensors, which is never loaded: save the network's state_dict()") from error
        raise TorchFileError(f"{path}: not a whole PyTorch file: cut short, or something else") from error
    if not isinstance(state, dict):
        raise TorchFileError(f"{path}: holds a {type(state).__name__}, not tensors by name: save the network's state_dict()")
    _refuse_inflated(path, torch, state)
    return {key: _array(path, torch, key, tensor) for key, tensor in state.items()}


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a state dict that `torch.load` reads; an interrupted write leaves no file.

    Args:
        path: the file to write.
        arrays: the arrays by name.

    Raises:
        TorchFileError: if PyTorch is missing or too old.
    """
    path = Path(path)
    torch = _torch(path)
    with files.replacing(path) as temporary:
        torch.save({key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}, temporary)


def _torch(path: Path) -> ModuleType:
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise TorchFileError(f'{path}: this needs PyTorch: pip install "i2i-jax[torch]"') from error
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < OLDEST:
        raise TorchFileError(f"{path}: PyTorch {torch.__version__} is too old to read files safely: 2.6 or newer is needed")
    return torch


def _refuse_compressed(path: Path) -> None:
    """Rejects compressed archives: `torch.save` never compresses, and they may unpack to a thousand times their size."""
    try:
        with zipfile.ZipFile(path) as file:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an older format, or damaged: `torch.load` decides
    if packed:
        raise TorchFileError(f"{path}: a compressed archive, which torch.save does not write")


def _refuse_inflated(path: Path, torch: ModuleType, state: dict) -> None:
    """Rejects tensors larger than the file: with a stride of 0, one stored number may stand for any number of elements."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values() if torch.is_tensor(tensor))
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
