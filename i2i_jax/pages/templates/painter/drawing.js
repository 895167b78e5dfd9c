// The picture that visitors draw: RGBA pixels, with undo and redo.

const MOST_STEPS = 100; // that can be undone

export class Drawing {
  /** @param soft whether lines have smooth edges; otherwise each pixel has exactly one of the colours that are drawn with. */
  constructor(width, height, paper, {soft}) {
    Object.assign(this, {width, height, paper, soft, done: [], undone: [], isExample: false});
    this.empty = true; // until it is opened, or a picture is placed
    this.pixels = this.blank();
  }

  /** The pixels of an empty canvas. */
  blank() {
    const pixels = new Uint8ClampedArray(4 * this.width * this.height);
    for (let i = 0; i < pixels.length; i += 4) pixels.set([...this.paper, 255], i);
    return pixels;
  }

  /** Begins a change that can be undone. */
  begin() {
    this.done.push(this.pixels.slice());
    if (this.done.length > MOST_STEPS) this.done.shift();
    this.undone = [];
    this.isExample = false;
    this.coverage = new Float32Array(this.width * this.height);
  }

  /** Draws a line with round ends, in units of pixels; lines of one change overlap without getting darker. */
  line([x0, y0], [x1, y1], diameter, colour) {
    const radius = diameter / 2, reach = radius + 1, before = this.done.at(-1);
    const [dx, dy] = [x1 - x0, y1 - y0], squared = dx * dx + dy * dy;
    const [left, right] = this.within(Math.min(x0, x1) - reach, Math.max(x0, x1) + reach, this.width);
    const [top, bottom] = this.within(Math.min(y0, y1) - reach, Math.max(y0, y1) + reach, this.height);
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const along = squared && Math.min(1, Math.max(0, ((x + 0.5 - x0) * dx + (y + 0.5 - y0) * dy) / squared));
        const distance = Math.hypot(x + 0.5 - x0 - along * dx, y + 0.5 - y0 - along * dy);
        const covered = this.soft ? Math.min(1, radius + 0.5 - distance) : distance <= Math.max(radius, 0.5);
        const pixel = y * this.width + x;
        if (covered <= this.coverage[pixel]) continue;
        this.coverage[pixel] = covered;
        colour.forEach((value, i) => { this.pixels[4 * pixel + i] = before[4 * pixel + i] * (1 - covered) + value * covered; });
      }
    }
  }

  /** Fills a rectangle between two corners. */
  fill(corner, opposite, colour) {
    const [left, right] = this.within(...[corner[0], opposite[0]].sort((a, b) => a - b).map(Math.round), this.width);
    const [top, bottom] = this.within(...[corner[1], opposite[1]].sort((a, b) => a - b).map(Math.round), this.height);
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) this.pixels.set(colour, 4 * (y * this.width + x));
  }

  /** Draws the four sides of a rectangle. */
  outline([x0, y0], [x1, y1], diameter, colour) {
    const corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    corners.forEach((corner, i) => this.line(corner, corners[(i + 1) % 4], diameter, colour));
  }

  /** Replaces the whole picture. */
  replace(pixels) {
    this.begin();
    this.pixels = pixels;
    this.empty = false;
  }

  /** Makes the present picture the one where undoing ends. */
  open() {
    this.done = [];
    this.empty = false;
  }

  undo() { this.swap(this.done, this.undone); }

  redo() { this.swap(this.undone, this.done); }

  swap(from, to) {
    if (!from.length) return;
    to.push(this.pixels);
    this.pixels = from.pop();
  }

  within(low, high, side) {
    return [Math.max(0, Math.floor(low)), Math.min(side, Math.ceil(high))];
  }
}

/** Gives each pixel the nearest of the colours. */
export function snap(pixels, colours) {
  for (let i = 0; i < pixels.length; i += 4) {
    const distance = (colour) => colour.reduce((sum, value, j) => sum + (value - pixels[i + j]) ** 2, 0);
    pixels.set(colours.reduce((best, colour) => distance(colour) < distance(best) ? colour : best), i);
  }
  return pixels;
}
