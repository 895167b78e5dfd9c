// Brush, rectangle and eraser: what pointer and keyboard draw.

import {ARROWS, by, clamp, element} from "./elements.js";

const canvas = () => by("drawing");

export class Tools {
  /**
   * @param drawing what is drawn on.
   * @param kind, brushes, line as in the settings of page.js.
   * @param changed is called after every change of it.
   */
  constructor(drawing, {kind, brushes, line}, changed) {
    const paintsClasses = kind === "classes", size = paintsClasses ? Math.ceil(drawing.width / 16) : line;
    const sizes = {brush: size, rectangle: size, eraser: paintsClasses ? size : 4 * size};
    Object.assign(this, {drawing, paintsClasses, brushes, changed, sizes, tool: "brush", brush: 1});
    this.line = null; // while the pointer or the space bar is down: {start, end}
    this.cursor = [Math.round(drawing.width / 2), Math.round(drawing.height / 2)]; // of the keyboard
    this.addControls();
    this.followPointer();
    canvas().addEventListener("keydown", (event) => this.pressed(event));
    canvas().addEventListener("blur", () => { this.lift(); this.mark(null); });
  }

  addControls() {
    by("brushes")?.append(...this.brushes.map(({name, colour}, i) => {
      const swatch = element("span", {className: "swatch"});
      swatch.style.background = `rgb(${colour})`;
      const button = element("button", {onclick: () => this.pickBrush(i)}, swatch, name);
      button.dataset.brush = i;
      return button;
    }));
    for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => this.pick({tool: button.dataset.tool});
    by("size").max = Math.max(8, Math.ceil(this.drawing.width / 4));
    by("size").oninput = () => this.resize(Number(by("size").value));
    this.pick({});
  }

  pick({tool = this.tool, brush = this.brush}) {
    Object.assign(this, {tool, brush});
    for (const button of document.querySelectorAll("[data-tool]")) button.ariaPressed = String(button.dataset.tool === tool);
    for (const button of by("brushes")?.children ?? []) {
      button.ariaPressed = String(Number(button.dataset.brush) === brush && tool !== "eraser");
    }
    this.resize(this.sizes[tool]);
  }

  pickBrush(brush) {
    this.pick({brush, tool: this.tool === "eraser" ? "brush" : this.tool});
  }

  resize(size) {
    this.sizes[this.tool] = clamp(size, 1, Number(by("size").max));
    by("size").value = by("size-shown").textContent = this.sizes[this.tool];
  }

  /** Puts the tool down at a point, in pixels of the drawing. */
  lower(point) {
    this.line = {start: point, end: point};
    const isLine = !this.paintsClasses && this.tool !== "eraser";
    if (isLine && this.drawing.isExample) this.drawing.replace(this.drawing.blank());
    this.drawing.begin();
    this.moveTo(point);
  }

  moveTo(point) {
    if (this.tool !== "rectangle") {
      this.drawing.line(this.line.end, point, this.sizes[this.tool], this.colour());
      this.changed();
    }
    this.line.end = point;
    this.mark(point);
  }

  lift() {
    if (!this.line) return;
    const {start, end} = this.line;
    this.line = null;
    if (this.tool === "rectangle" && this.paintsClasses) this.drawing.fill(start, end, this.colour());
    else if (this.tool === "rectangle") this.drawing.outline(start, end, this.sizes.rectangle, this.colour());
    this.changed();
    this.mark(end);
  }

  colour() {
    return this.brushes[this.tool === "eraser" ? 0 : this.brush].colour;
  }

  /** Shows the tip of the tool, and the rectangle that is being drawn. */
  mark(point) {
    const {start} = this.line ?? {};
    const marks = {
      tip: point && {cx: point[0], cy: point[1], r: this.tool === "rectangle" ? 0.5 : this.sizes[this.tool] / 2},
      frame: point && start && this.tool === "rectangle" && {
        x: Math.min(start[0], point[0]), y: Math.min(start[1], point[1]),
        width: Math.abs(point[0] - start[0]), height: Math.abs(point[1] - start[1]),
      },
    };
    for (const [id, attributes] of Object.entries(marks)) {
      by(id).toggleAttribute("hidden", !attributes);
      for (const [name, value] of Object.entries(attributes || {})) by(id).setAttribute(name, value);
    }
  }

  followPointer() {
    const point = (event) => {
      const box = canvas().getBoundingClientRect();
      return [(event.clientX - box.left) / box.width * this.drawing.width, (event.clientY - box.top) / box.height * this.drawing.height];
    };
    canvas().addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.line) return;
      canvas().setPointerCapture(event.pointerId);
      this.lower(point(event));
    });
    canvas().addEventListener("pointermove", (event) => {
      if (!canvas().hasPointerCapture(event.pointerId)) return this.line || this.mark(point(event));
      const passed = event.getCoalescedEvents?.() ?? [];
      if (this.line) for (const each of passed.length ? passed : [event]) this.moveTo(point(each));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas().addEventListener(end, () => this.lift());
    canvas().addEventListener("pointerleave", () => this.line || this.mark(null));
  }

  /** Handles keys on the drawing. */
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      const step = event.shiftKey ? 8 : 1, [dx, dy] = ARROWS[event.key], {width, height} = this.drawing;
      this.cursor = [clamp(this.cursor[0] + step * dx, 0, width), clamp(this.cursor[1] + step * dy, 0, height)];
      if (this.line) this.moveTo(this.cursor); else this.mark(this.cursor);
    } else if (event.key === " " || event.key === "Enter") {
      if (this.line) this.lift(); else this.lower(this.cursor);
    } else return;
    event.preventDefault();
  }

  /** Handles keys anywhere on the page. */
  shortcut(key) {
    const tool = {b: "brush", r: "rectangle", e: "eraser"}[key];
    if (tool) this.pick({tool});
    else if (key === "[") this.resize(this.sizes[this.tool] - 1);
    else if (key === "]") this.resize(this.sizes[this.tool] + 1);
    else if (this.paintsClasses && this.brushes[key - 1]) this.pickBrush(key - 1);
  }
}
