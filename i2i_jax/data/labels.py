"""Label maps as inputs (`data.input_labels`): class ids or colours in the files, one channel for each class in the networks."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Num, UInt8

from i2i_jax.config import Config, ConfigError, DataConfig
from i2i_jax.data.image_header import Header, Unusable, with_channels
from i2i_jax.data.palettes import PALETTES, RGB

OPTION = "data.input_labels"
MAX_CLASSES = 256
FAR = 48  # between the colour of a pixel and the nearest class's, Euclidean, in 8 bits: more than JPEG changes flat colours by
FORMS = f"must be a number of classes, one of {', '.join(PALETTES)}, or a JSON file of colours"


@dataclasses.dataclass(frozen=True)
class Labels:
    """How the input files say the class of each pixel.

    Attributes:
        colours: the colour of each class. If `by_id`, files do not have them: pages and sample grids show them.
        unlabelled: colours of pixels that belong to no class.
        by_id: whether the pixels of the files are class ids.
        jpeg: whether JPEG files are read too, each pixel as the class of the nearest colour.
    """

    colours: tuple[RGB, ...]
    unlabelled: tuple[RGB, ...] = ()
    by_id: bool = False
    jpeg: bool = False

    def check(self, header: Header) -> None:
        """Raises Unusable if an image of this header cannot be such a label map."""
        if header.lossy and not self.jpeg:
            raise Unusable(f"is a JPEG, which blurs classes: label maps ({OPTION}) must be PNG")
        if self.by_id and header.ids is None:
            channels = header.channels - header.alpha
            what = f"has {channels} channels" if channels != 1 else "has transparency" if header.alpha else "has signed samples or floats"
            raise Unusable(
                f"{what}: class ids ({OPTION}={len(self.colours)}) are read from grey or palette PNGs; {OPTION}=PALETTE.json reads colours"
            )
        if not self.by_id and header.channels - header.alpha not in (1, 3):
            raise Unusable(f"has {header.channels} channels: the colours of label maps ({OPTION}) have 3")

    def one_hot(self, header: Header, columns: slice = slice(None)) -> UInt8[np.ndarray, "h w k"]:
        """Decodes the columns of an image to one channel for each class: 255 where a pixel is of the class, else 0.

        Raises:
            Unusable: if the image has class ids or colours that are not known.
        """
        self.check(header)
        if self.by_id and header.ids is not None:
            index = self._checked_ids(header.ids()[:, columns, 0])
        else:
            pixels = header.decode()
            if pixels.dtype != np.uint8:
                raise Unusable(f"has 16 bits: the colours of label maps ({OPTION}) have 8")
            rgb = with_channels(pixels[:, columns], header.alpha, 3)
            index = self._nearest(rgb) if header.lossy else self._by_colour(rgb)
        rows = np.vstack([255 * np.eye(len(self.colours), dtype=np.uint8), np.zeros(len(self.colours), np.uint8)])
        return rows[index]

    def painted(self, one_hot: Num[np.ndarray, "*b h w k"]) -> UInt8[np.ndarray, "*b h w 3"]:
        """Returns label maps in the colours of their classes. Takes one-hot channels of uint8, or of floats in {-1, 1}."""
        present = np.asarray(one_hot) > 0
        index = np.where(present.any(-1), present.argmax(-1), len(self.colours))
        return np.array([*self.colours, self.unlabelled[0] if self.unlabelled else (0, 0, 0)], np.uint8)[index]

    def of_drawing(self, rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w k"]:
        """Like `one_hot`, but for a picture drawn by hand: each pixel is of the class of the nearest colour, the first if all are far."""
        distance, inverse = self._distances(rgb)
        index = np.where(distance.min(1) > FAR**2, 0, distance.argmin(1))[inverse].reshape(rgb.shape[:2])
        return (index[..., None] == np.arange(len(self.colours))).astype(np.uint8) * 255

    def _checked_ids(self, ids: Integer[np.ndarray, "h w"]) -> np.ndarray:
        count = len(self.colours)
        unknown, pixels = np.unique(ids[ids >= count], return_counts=True)
        if not len(unknown):
            return ids
        most = pixels.argmax()
        more = f" and {len(unknown) - 1} more such ids" if len(unknown) > 1 else ""
        enough = int(unknown[-1]) + 1
        larger = f"; {OPTION}={enough} would do" if enough <= MAX_CLASSES else ""
        raise Unusable(f"has the class id {unknown[most]} in {pixels[most]} pixels{more}: {OPTION}={count} allows 0 to {count - 1}{larger}")

    def _by_colour(self, rgb: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
        """The class of each pixel, -1 for unlabelled ones. Raises Unusable for other colours."""
        known = packed_rgb(np.array([*self.colours, *self.unlabelled], np.uint8))
        order, values = np.argsort(known), packed_rgb(rgb)
        place = np.searchsorted(known[order], values).clip(max=len(known) - 1)
        unknown, pixels = np.unique(values[known[order][place] != values], return_counts=True)
        if len(unknown):
            most = pixels.argmax()
            more = f" and {len(unknown) - 1} more unknown colours" if len(unknown) > 1 else ""
            raise Unusable(
                f"has the colour #{unknown[most]:06x} in {pixels[most]} pixels{more}: "
                f"must be one of the {len(known)} colours of {OPTION}, or be added to a palette file"
            )
        return self._without_unlabelled(order[place])

    def _nearest(self, rgb: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
        """The class of the nearest colour of each pixel, -1 for unlabelled ones. Raises Unusable for photos."""
        distance, inverse = self._distances(rgb)
        far = (distance.min(1) > FAR**2)[inverse].mean()
        if far > 0.5:
            raise Unusable(f"has {far:.0%} of its pixels far from all {distance.shape[1]} colours of {OPTION}: must be a label map")
        return self._without_unlabelled(distance.argmin(1)[inverse].reshape(rgb.shape[:2]))

    def _distances(self, rgb: UInt8[np.ndarray, "h w 3"]) -> tuple[np.ndarray, np.ndarray]:
        """The squared distance of each colour of an image to each known one, and which of the former each pixel has."""
        known = np.array([*self.colours, *self.unlabelled], np.int32)
        values, inverse = np.unique(packed_rgb(rgb), return_inverse=True)
        colours = np.stack([values >> 16, values >> 8 & 255, values & 255], -1)
        return np.square(colours[:, None] - known).sum(-1), inverse

    def _without_unlabelled(self, index: np.ndarray) -> np.ndarray:
        return np.where(index < len(self.colours), index, -1)


def of_config(data: DataConfig) -> Labels | None:
    """Returns how the inputs of a run are labelled; None if `data.input_labels` is empty.

    Raises:
        ConfigError: if the option is not valid, or `data.input_channels` is not the number of classes.
    """
    if not data.input_labels:
        return None
    labels = _parsed(_content(data.input_labels))
    if data.input_channels != (classes := len(labels.colours)):
        raise ConfigError(
            f"data.input_channels is {data.input_channels}, but {OPTION} has {classes} classes: data.input_channels={classes} would do"
        )
    return labels


def of_option(option: str) -> tuple[Labels, tuple[str, ...]]:
    """Returns how files store the classes of label maps by a value of `data.input_labels`, and the name of each class.

    Raises:
        ConfigError: if the value is not valid, or its file cannot be read.
    """
    content = _content(option) if option else ""
    if not content:
        raise ConfigError(f"{OPTION} is empty: {FORMS}")
    if content in PALETTES:
        names = tuple(PALETTES[content].classes)
    else:
        names = tuple(map(str, range(int(content)))) if content.isdecimal() else tuple(_palette(content))
    return _parsed(content), names


def drawn_classes(data: DataConfig) -> dict[str, RGB]:
    """Returns the colours to draw a run's inputs with, by class; none if the inputs are not label maps.

    Raises:
        ConfigError: if `data.input_labels` is not valid.
    """
    if data.input_labels:
        labels, names = of_option(data.input_labels)
        return dict(zip(names, labels.colours, strict=True))
    return PALETTES[data.name].classes if data.name in PALETTES and data.direction == "BtoA" else {}


def resolved(config: Config, *, kept: str = "") -> Config:
    """Returns a config that needs no other file: the content of a palette file replaces its path in `data.input_labels`.

    The default `data.input_channels` becomes the number of classes. A config without label maps is returned unchanged.

    Args:
        config: the config.
        kept: the palette that the run has kept, used if the file does not exist any more.

    Raises:
        ConfigError: if `data.input_labels` is not valid, or its file cannot be read.
    """
    if not config.data.input_labels:
        return config
    content = config.data.input_labels
    content = kept if kept[:1] in ("[", "{") and not (_is_content(content) or Path(content).expanduser().exists()) else _content(content)
    channels = config.data.input_channels
    channels = len(_parsed(content).colours) if channels == DataConfig.input_channels else channels
    return dataclasses.replace(config, data=dataclasses.replace(config.data, input_labels=content, input_channels=channels))


def _content(option: str) -> str:
    """The value of the option; in place of a file, its palette as JSON text of one line. Raises ConfigError."""
    if _is_content(option):
        return option
    try:
        text = Path(option).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "is not text"
        raise ConfigError(f"{OPTION} is {option!r}, {reason}: {FORMS}") from None
    try:
        colours = {name: f"#{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in _palette(text).items()}
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None
    return json.dumps(colours if text.lstrip().startswith("{") else [*colours.values()], ensure_ascii=False)


def _is_content(option: str) -> bool:
    """Whether the value of the option is not the path of a file."""
    return option.isdecimal() or option in PALETTES or option[0] in "[{"


def _parsed(content: str) -> Labels:
    """Raises ConfigError."""
    if content in PALETTES:
        return Labels(tuple(PALETTES[content].classes.values()), PALETTES[content].unlabelled, jpeg=True)
    if content.isdecimal():
        if not 2 <= int(content) <= MAX_CLASSES:
            raise ConfigError(f"{OPTION} is {content}: a number of classes must be from 2 to {MAX_CLASSES}")
        return Labels(tuple(map(_shown_colour, range(int(content)))), by_id=True)
    try:
        return Labels(tuple(_palette(content).values()))
    except ConfigError as error:
        raise ConfigError(f"{OPTION}: {error}") from None


def _palette(text: str) -> dict[str, RGB]:
    """The colour of each class by name; classes of a list are named by their index. Raises ConfigError."""
    try:
        entries: Any = json.loads(text, object_pairs_hook=list if text.lstrip().startswith("{") else None)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not JSON ({error}): must be an object of colours by class name, or a list of colours") from None
    if text.lstrip().startswith("["):
        entries = [(str(index), colour) for index, colour in enumerate(entries)]
    if not isinstance(entries, list) or not 2 <= len(entries) <= MAX_CLASSES:
        count = len(entries) if isinstance(entries, list) else "no"
        raise ConfigError(f"is a palette of {count} classes: must be an object or a list of 2 to {MAX_CLASSES} colours")
    palette: dict[str, RGB] = {}
    for name, value in entries:
        colour = _colour(name, value)
        if name in palette or colour in palette.values():
            other = name if name in palette else next(known for known in palette if palette[known] == colour)
            raise ConfigError(f"class {name!r} and class {other!r} have the same {'name' if name == other else 'colour'}: must differ")
        palette[name] = colour
    return palette


def _colour(name: str, value: Any) -> RGB:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)
    if isinstance(value, list) and len(value) == 3 and all(type(x) is int and 0 <= x <= 255 for x in value):
        return value[0], value[1], value[2]
    raise ConfigError(f"class {name!r} has the colour {value!r}: must be [r, g, b] from 0 to 255, or '#rrggbb'")


def packed_rgb(rgb: UInt8[np.ndarray, "... 3"]) -> np.ndarray:
    """Returns each colour as one number, 0xrrggbb."""
    return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _shown_colour(index: int) -> RGB:
    """The colour of a class id in PASCAL VOC's colour map, which has 256 distinct ones."""
    r, g, b = (sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return r, g, b
