"""Label maps of made-up facades, in the colours of the CMP Facade Database: inputs for models that were trained on it."""

import numpy as np
from jaxtyping import UInt8

from i2i_jax.data.palettes import PALETTES

SIZE = 256  # pixels; a facade is drawn on a grid of this size

Length = int | float  # pixels

_COLOURS = PALETTES["facades"].classes


def layout(seed: int) -> UInt8[np.ndarray, "256 256 3"]:
    """Draws a label map: a facade with floors and columns of windows, its ground floor with a door and shops, and what decorates it.

    On average, the classes cover about as much of an image as in the database. The result depends only on `seed`.
    """
    facade = _Facade(seed)
    facade.draw_walls()
    for floor in range(facade.floors):
        facade.draw_floor(floor)
    facade.draw_ground_floor()
    return facade.image


class _Facade:
    """One facade while it is drawn. x points to the right, y down."""

    def __init__(self, seed: int):
        self.random = random = np.random.RandomState(seed)  # whose streams never change
        self.image = np.full((SIZE, SIZE, 3), _COLOURS["background"], np.uint8)
        self.floors, self.columns = random.randint(2, 5), random.randint(3, 7)  # floors above the ground floor
        self.left, self.right = random.randint(2, 36), SIZE - random.randint(2, 36)
        self.top, self.bottom = random.randint(12, 48), SIZE - random.randint(2, 12)
        self.roof = random.randint(8, 24)
        self.ground = self.bottom - random.randint(48, 64)  # where the ground floor begins
        self.height = (self.ground - self.top - self.roof) / self.floors  # of an upper floor
        self.pitch = (self.right - self.left) / self.columns  # from window to window
        self.window = self.pitch * random.uniform(0.42, 0.56), self.height * random.uniform(0.5, 0.58)
        self.has_blinds, self.has_pillars = random.uniform(size=2) < (0.3, 0.2)
        self.above = [["cornice", "cornice", "deco", None][choice] for choice in random.randint(0, 4, self.floors)]  # the windows
        self.bands = random.uniform(size=self.floors) < 0.4  # whether a molding runs under each floor
        self.bands[-1] = True
        self.balconies = random.randint(0, 4, self.floors)  # 0: none, 1: in the middle, 2: at every other window, 3: along the floor

    def fill(self, name: str, x: Length, y: Length, width: Length, height: Length) -> None:
        """Fills a rectangle, centered at x, with the colour of a class."""
        left, right = max(self.left, round(x - width / 2)), min(self.right, round(x + width / 2))
        self.image[max(0, round(y)) : min(self.bottom, round(y + height)), left:right] = _COLOURS[name]

    def centers(self) -> list[float]:
        """The x of the middle of each column of windows."""
        return [self.left + (index + 0.5) * self.pitch for index in range(self.columns)]

    def draw_walls(self) -> None:
        middle, width = (self.left + self.right) / 2, self.right - self.left
        self.fill("facade", middle, self.top, width, self.bottom - self.top)
        self.fill("molding", middle, self.top, width, self.roof)

    def draw_floor(self, floor: int) -> None:
        top, middle, whole = self.top + self.roof + floor * self.height, (self.left + self.right) / 2, self.right - self.left
        width, height = self.window
        y = top + 0.22 * self.height  # of the windows
        if self.bands[floor]:
            self.fill("molding", middle, top + self.height - 4, whole, 6)
        for index, x in enumerate(self.centers()):
            self.fill("window", x, y, width, height)
            if self.has_blinds:
                self.fill("blind", x - 0.62 * width, y, 0.24 * width, height)
                self.fill("blind", x + 0.62 * width, y, 0.24 * width, height)
            self.fill("sill", x, y + height, 1.2 * width, 6)
            if above := self.above[floor]:
                self.fill(above, x, y - 7, 1.25 * width, 7)
            in_the_middle, every_other = abs(x - middle) < 0.6 * self.pitch, index % 2 == 0
            if (False, in_the_middle, every_other, False)[self.balconies[floor]]:
                self.fill("balcony", x, y + 0.6 * height, 1.5 * width, 0.55 * height)
        if self.balconies[floor] == 3:
            self.fill("balcony", middle, y + 0.64 * height, 0.92 * whole, 0.5 * height)
        if self.has_pillars:
            for index in range(self.columns + 1):
                self.fill("pillar", self.left + index * self.pitch, top, 7, self.height - 4)

    def draw_ground_floor(self) -> None:
        height = self.bottom - self.ground
        door, has_shops = self.random.randint(self.columns), self.random.uniform(size=self.columns) < 0.6
        for index, x in enumerate(self.centers()):
            if index == door:
                self.fill("deco", x, self.ground + 0.14 * height, 0.5 * self.pitch, 0.12 * height)
                self.fill("door", x, self.ground + 0.26 * height, 0.46 * self.pitch, height)
            elif has_shops[index]:
                self.fill("shop", x, self.ground + 0.3 * height, 0.74 * self.pitch, 0.6 * height)
            else:
                self.fill("window", x, self.ground + 0.26 * height, 0.48 * self.pitch, 0.42 * height)
                self.fill("sill", x, self.ground + 0.68 * height, 0.56 * self.pitch, 6)
