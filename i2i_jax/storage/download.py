"""Downloads over HTTP, with a progress bar."""

import urllib.request
from pathlib import Path

from tqdm import tqdm

from i2i_jax.storage.files import writing

TIMEOUT = 30  # seconds without a byte after which a download fails
BLOCK = 2**20  # bytes


def fetch(url: str, path: Path, **progress_options) -> int | None:
    """Downloads a URL into a file, which is left incomplete if that fails.

    Args:
        url: the URL.
        path: the file to write.
        **progress_options: further options of the progress bar, as tqdm takes them.

    Returns:
        The size in bytes that the server announced, which the caller should compare with the file's; None if it announced none.

    Raises:
        urllib.error.HTTPError: if the server answers with an error.
        urllib.error.URLError: if the server cannot be reached.
        http.client.HTTPException, ConnectionError, TimeoutError: if the connection fails or stalls.
        OSError: if the file cannot be written.
    """
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length", -1))
        with tqdm(total=max(size, 0), unit="B", unit_scale=True, **progress_options) as progress:
            while block := response.read(BLOCK):
                with writing(path):
                    progress.update(file.write(block))
    return size if size >= 0 else None
