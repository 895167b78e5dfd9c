// The page: a drawing, and the model's answers, which follow it by themselves.

import {Answers} from "./answers.js";
import {Drawing, snap} from "./drawing.js";
import {by, clamp, element} from "./elements.js";
import {read} from "./images.js";
import {fromFragment, pack, toFragment, unpack} from "./link.js";
import {encode} from "./model.js";
import {colours, say, settings} from "./page.js";
import {connectPad, connectSliders} from "./sliders.js";
import {Tools} from "./tools.js";

const ADDRESS_DELAY = 500; // ms from a change until the address has it

const {width, height} = settings;
const paintsClasses = settings.kind === "classes";
const drawing = new Drawing(width, height, colours[0], {soft: settings.kind === "pen"});
const answers = new Answers(drawing);

function show() {
  by("drawing").getContext("2d").putImageData(new ImageData(drawing.pixels, width, height), 0, 0);
  by("undo").disabled = !drawing.done.length;
  by("redo").disabled = !drawing.undone.length;
}

function changed() {
  show();
  answers.refresh();
  keepAddress();
}

// ---- files

async function place(file) {
  const pixels = await read(file, width, height, {exact: paintsClasses});
  drawing.replace(paintsClasses ? snap(pixels, colours) : pixels);
  changed();
}

async function copyStyle(file) {
  const [styleHeight, styleWidth] = settings.encoded_size;
  answers.setLatent(await encode(await read(file, styleWidth, styleHeight)));
}

async function use(file, what) {
  try {
    await what(file);
    say("");
  } catch (error) {
    say(`${file.name} cannot be used: ${error.message}`);
  }
}

let nextExample = 1;

async function placeExample() {
  const response = await fetch(`example_${nextExample}.png`);
  nextExample = nextExample % settings.examples + 1;
  await place(await response.blob());
  drawing.isExample = true; // until it is changed
}

function download() {
  answers.shown[answers.chosen].canvas.toBlob((blob) => {
    const link = element("a", {href: URL.createObjectURL(blob), download: `${settings.name}-${answers.seed}-${answers.chosen + 1}.png`});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

// ---- the address

let written = location.hash.slice(1), timer = null;

function keepAddress() {
  clearTimeout(timer);
  timer = setTimeout(writeAddress, ADDRESS_DELAY);
}

/** Returns whether the address holds the drawing. */
async function writeAddress() {
  clearTimeout(timer);
  const packed = drawing.empty ? null : await pack(drawing.pixels);
  written = toFragment({seed: answers.seed, chosen: answers.chosen, own: answers.own, drawing: packed});
  history.replaceState(null, "", `#${written}`);
  return packed !== null;
}

/** Restores what the address holds; returns whether that is a drawing too. */
async function readAddress() {
  const said = fromFragment(location.hash.slice(1), {answers: settings.answers, size: settings.latent});
  if (!said) return false;
  answers.restore(said);
  if (!said.drawing) return false;
  try {
    const pixels = await unpack(said.drawing, width * height);
    drawing.replace(paintsClasses ? snap(pixels, colours) : pixels);
    return true;
  } catch {
    say("The drawing of this link is damaged, or belongs to another page: it is left out.");
    return false;
  }
}

async function copyLink() {
  const what = await writeAddress() ? "seed, latents and drawing" : "seed and latents, but no picture";
  try {
    await navigator.clipboard.writeText(location.href);
    say(`Copied: a link that holds ${what}.`);
  } catch {
    say(`The address of this page holds ${what}.`);
  }
}

// ---- controls

function connect() {
  const on = (id, type, handler) => by(id)?.addEventListener(type, handler);
  const onFile = (id, what) => on(id, "change", ({target}) => {
    if (target.files[0]) use(target.files[0], what);
    target.value = "";
  });
  on("undo", "click", () => { drawing.undo(); changed(); });
  on("redo", "click", () => { drawing.redo(); changed(); });
  on("clear", "click", () => { drawing.replace(drawing.blank()); changed(); });
  on("example", "click", placeExample);
  onFile("upload", place);
  onFile("style", copyStyle);
  on("another", "click", () => setSeed(answers.seed + 1));
  on("seed", "change", ({target}) => setSeed(Math.round(target.value) || 0));
  on("download", "click", download);
  on("link", "click", copyLink);
  on("canvas", "dragover", (event) => event.preventDefault());
  on("canvas", "drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) use(event.dataTransfer.files[0], place);
  });
  answers.addEventListener("change", () => {
    if (by("seed")) by("seed").value = answers.seed;
    keepAddress();
  });
  if (by("sliders")) connectSliders(answers);
  if (by("pad")) connectPad(answers);
  const tools = settings.kind === "photo" ? null : new Tools(drawing, settings, changed);
  addEventListener("keydown", (event) => shortcut(event, tools));
}

function setSeed(seed) {
  answers.restore({seed: clamp(seed, 0, 2 ** 31 - 1), chosen: answers.chosen, own: new Map()});
}

function shortcut(event, tools) {
  if (event.target.matches("input:not([type=range])") || event.altKey) return;
  const key = event.key.toLowerCase();
  if (!event.ctrlKey && !event.metaKey) return tools?.shortcut(key);
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  by(key === "y" || event.shiftKey ? "redo" : "undo").click();
}

async function open() {
  connect();
  if (!await readAddress() && settings.examples) await placeExample();
  if (settings.kind !== "photo" || !drawing.empty) drawing.open();
  changed();
  clearTimeout(timer); // the address is written when a visitor has changed something
  if (drawing.empty) say("");
  addEventListener("hashchange", async () => {
    if (location.hash.slice(1) === written) return;
    await readAddress();
    changed();
  });
}

await open();
