// The drawing of the studio: the server gets it after every stroke, and the address of the page keeps it.

import {Drawing, snap} from "../pages/templates/painter/drawing.js";
import {by} from "../pages/templates/painter/elements.js";
import {read} from "../pages/templates/painter/images.js";
import {pack, unpack} from "../pages/templates/painter/link.js";
import {Tools} from "../pages/templates/painter/tools.js";

const ADDRESS_DELAY = 500; // ms from a change until the address has it

const say = (text) => { by("said").textContent = text; };

class Studio {
  /**
   * @param root the element of the component, with the content of canvas.html.
   * @param props of the component: `value`, the picture as a data URL, and `settings`, by the name of the run; see `session.settings`.
   * @param trigger fires an event of the component.
   */
  constructor(root, props, trigger) {
    Object.assign(this, {root, props, trigger, layout: root.innerHTML, options: [], timer: null});
    root.addEventListener("keydown", (event) => this.shortcut(event));
    addEventListener("hashchange", () => { clearTimeout(this.timer); location.reload(); }); // another link was opened here
  }

  /** Shows what the address holds, else the first example; then the server is asked for its translations. */
  async begin() {
    const entries = new URLSearchParams(location.hash.slice(1)), runs = Object.keys(this.props.settings);
    this.choose(runs.includes(entries.get("run")) ? entries.get("run") : runs[0]);
    this.kept = entries;
    if (!await this.unpacked(entries) && this.props.value) await this.open(this.props.value);
    this.drawing.open();
    this.show();
    this.send("submit");
  }

  /** Lays out the tools of a run, with an empty canvas. */
  choose(run) {
    this.run = run;
    this.settings = this.props.settings[run];
    this.root.innerHTML = this.layout;
    this.root.dataset.kind = this.settings.kind;
    this.resize(this.settings.width, this.settings.height);
    const on = (id, handler) => { by(id).onclick = handler; };
    on("undo", () => { this.drawing.undo(); this.changed(); });
    on("redo", () => { this.drawing.redo(); this.changed(); });
    on("clear", () => { this.drawing.replace(this.drawing.blank()); this.changed(); });
    on("link", () => this.copyLink());
    by("brush").textContent = this.settings.kind === "pen" ? "Pen" : "Brush";
    this.tools = new Tools(this.drawing, this.settings, () => this.changed());
    this.show();
  }

  /** Begins an empty drawing of another size. */
  resize(width, height) {
    const {kind, brushes} = this.settings;
    this.drawing = new Drawing(width, height, brushes[0].colour, {soft: kind !== "classes"});
    if (this.tools) this.tools.drawing = this.drawing;
    Object.assign(by("drawing"), {width, height});
    by("canvas").style.setProperty("--ratio", width / height);
    by("marks").setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Shows a picture from the server, given as a data URL. */
  async open(url) {
    const picture = new Image();
    picture.src = url;
    await picture.decode();
    this.place(await read(picture, picture.naturalWidth, picture.naturalHeight), picture.naturalWidth, picture.naturalHeight);
  }

  place(pixels, width, height) {
    if (width !== this.drawing.width || height !== this.drawing.height) this.resize(width, height);
    const colours = this.settings.brushes.map(({colour}) => colour);
    this.drawing.replace(this.settings.kind === "classes" ? snap(pixels, colours) : pixels);
    this.show();
  }

  show() {
    const {pixels, width, height, done, undone} = this.drawing;
    by("drawing").getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    by("undo").disabled = !done.length;
    by("redo").disabled = !undone.length;
  }

  changed() {
    say("");
    this.show();
    if (!this.tools.line) this.send("input");
  }

  /** Gives the server the picture. */
  send(event) {
    this.props.value = by("drawing").toDataURL();
    this.trigger(event);
    if (event === "input") this.keepAddress();
  }

  shortcut(event) {
    if (event.target.matches("input") || event.altKey) return;
    const key = event.key.toLowerCase();
    if (!event.ctrlKey && !event.metaKey) return this.tools.shortcut(key);
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    by(key === "y" || event.shiftKey ? "redo" : "undo").click();
  }

  // ---- the address

  /** The options of the page, in place of which those of the address are put: run, number of samples, seed, z. */
  restored([, samples, seed, z]) {
    const whole = (name, least, most) => {
      const number = Number(this.kept.get(name) ?? NaN);
      return Number.isInteger(number) && number >= least && number <= most ? number : null;
    };
    const latent = (this.kept.get("z") ?? "").split(",").filter(Boolean).map(Number);
    const fits = latent.length === this.settings.latent && latent.every(Number.isFinite);
    this.options = [this.run, whole("samples", 1, this.props.most) ?? samples, whole("seed", 0, 2 ** 31 - 1) ?? seed, fits ? latent : z];
    return this.options;
  }

  /** Takes the options that the address is to hold. */
  keep(...options) {
    this.options = options;
    this.keepAddress();
  }

  keepAddress() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.writeAddress(), ADDRESS_DELAY);
  }

  /** Returns whether the address holds the drawing. */
  async writeAddress() {
    clearTimeout(this.timer);
    const [run, samples, seed, z] = this.options, {pixels, width, height} = this.drawing, drawing = await pack(pixels);
    const entries = {run, seed, samples, ...z?.length ? {z: z.map((value) => +value.toPrecision(9))} : {}};
    const address = new URLSearchParams({...entries, ...drawing ? {size: `${width}x${height}`, drawing} : {}});
    history.replaceState(history.state, "", `#${address}`);
    return drawing !== null;
  }

  /** Places the drawing of an address; returns whether it has one. */
  async unpacked(entries) {
    const [width, height] = (entries.get("size") ?? "").split("x").map(Number);
    if (!entries.get("drawing")) return false;
    try {
      if (!(width * height <= this.props.pixels)) throw new Error("too large");
      this.place(await unpack(entries.get("drawing"), width * height), width, height);
      return true;
    } catch {
      say("The drawing of this link is damaged: it is left out.");
      return false;
    }
  }

  async copyLink() {
    const what = await this.writeAddress() ? "seed, latent and drawing" : "seed and latent, but no picture: photos are too large for it";
    try {
      await navigator.clipboard.writeText(location.href);
      say(`Copied: a link that holds ${what}.`);
    } catch {
      say(`The address of this page holds ${what}.`);
    }
  }
}

/** Begins the drawing, as `window.studio`, which the listeners of the page call. */
export function start(root, props, trigger) {
  window.studio = new Studio(root, props, trigger);
  return window.studio.begin();
}
