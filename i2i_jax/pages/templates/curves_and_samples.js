"use strict";

const FILM_PAUSE = 400; // ms
const MARGIN = {left: 46, right: 10, top: 8, bottom: 22};
const run = JSON.parse(document.getElementById("run-data").textContent);
const by = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- state that survives a reload

const KEY = `i2i ${location.pathname}`;
const state = {smoothing: 0.6, log: false, zoom: null, hidden: [], sample: null, config: false, scroll: 0};
try { Object.assign(state, JSON.parse(sessionStorage.getItem(KEY))); } catch { /* no storage: use the defaults */ }
function keep() {
  state.scroll = scrollY;
  try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch { /* see above */ }
}

// ---- numbers

function format(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("e+", "e");
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : size >= 0.1 || size === 0 ? 3 : 4);
}

function shortStep(value) {
  const [unit, suffix] = value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${+(value / unit).toFixed(3)}${suffix}`;
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const values = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) values.push(+(i * step).toPrecision(12));
  return values;
}

function logTicks(low, high) { // bounds and result are exponents of ten
  const powers = ticks(Math.ceil(low), Math.floor(high), 5).filter((p) => Number.isInteger(p) && p >= low && p <= high);
  if (powers.length > 2) return powers;
  const values = [];
  for (let p = Math.floor(low); p <= high; p++) for (const m of [1, 2, 5]) values.push(p + Math.log10(m));
  return values.filter((p) => p >= low && p <= high);
}

function smooth(values, weight) { // exponential moving average with bias correction, as in Adam; gaps (null) stay gaps
  let sum = 0, total = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

// ---- charts

const charts = [...run.charts, ...run.figures];
const ends = charts.flatMap(({steps}) => [steps[0], steps[steps.length - 1]]);
const first = Math.min(...ends), last = Math.max(...ends);
let cursor = null; // a step, shared by all charts

function view() {
  return state.zoom || [first, Math.max(last, first + 1)];
}

function nearest(steps, step) { // index of the nearest step
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle; else high = middle;
  }
  return step - steps[low] < steps[high] - step ? low : high;
}

function zoomTo(low, high) {
  low = Math.max(low, first);
  high = Math.min(high, last);
  state.zoom = low > first || high < last ? [low, Math.max(high, low + 1)] : null;
  drawAll();
}

function alone(chart) { // the only curve of its chart, which needs no legend: its value stands beside the title
  return chart.measured && chart.terms.length === 1;
}

function breakable(name) { // a name that breaks after its underscores only
  return name.split(/(?<=_)/).flatMap((part, i) => i ? [document.createElement("wbr"), part] : [part]);
}

function build(chart) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.innerHTML = '<div class="top"><h3></h3><span class="soft small" aria-live="polite"></span></div><p class="soft small"></p><div class="legend"></div><svg tabindex="0" role="img"></svg>';
  [chart.title, chart.readout] = figure.firstChild.children;
  [, chart.meant, chart.legend, chart.svg] = figure.children;
  chart.title.append(...breakable(chart.name + ({true: " ↑", false: " ↓"}[chart.higher] ?? "")));
  chart.meant.textContent = chart.meaning ?? "";
  chart.svg.setAttribute("aria-label", `${chart.name} over training steps`);
  for (const term of chart.terms) {
    term.steps ??= chart.steps;
    term.id = `${chart.name}/${term.name}`;
    term.colour = `var(--series-${term.colour})`;
    term.button = document.createElement("button");
    term.button.type = "button";
    term.button.title = term.meaning ?? "";
    term.button.style.setProperty("--series", term.colour);
    term.button.append(term.name, document.createElement("span"));
    term.button.onclick = () => {
      state.hidden = state.hidden.includes(term.id) ? state.hidden.filter((id) => id !== term.id) : [...state.hidden, term.id];
      draw(chart);
    };
    if (!alone(chart)) chart.legend.append(term.button);
  }
  listen(chart);
  by(chart.measured ? "figures" : "charts").append(figure);
}

function listen(chart) {
  const {svg, steps} = chart;
  const stepAt = (event) => {
    const box = svg.getBoundingClientRect(), [low, high] = view();
    const fraction = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    return low + clamp(fraction, 0, 1) * (high - low);
  };
  let start = null;
  svg.onpointerdown = (event) => {
    if (event.button !== 0) return;
    start = {x: event.clientX, step: stepAt(event)};
    cursor = steps[nearest(steps, start.step)];
    drawAll();
    svg.setPointerCapture(event.pointerId);
  };
  svg.onpointermove = (event) => {
    cursor = steps[nearest(steps, stepAt(event))];
    chart.band = start && Math.abs(event.clientX - start.x) > 6 ? [start.step, stepAt(event)].sort((a, b) => a - b) : null;
    drawAll();
  };
  svg.onpointerup = () => {
    const band = chart.band;
    start = chart.band = null;
    if (band) zoomTo(...band);
  };
  svg.onpointercancel = svg.onpointerleave = (event) => {
    start = chart.band = null;
    if (event.pointerType === "mouse") cursor = null; // on a touch screen the values stay when the finger is lifted
    drawAll();
  };
  svg.ondblclick = () => zoomTo(-Infinity, Infinity);
  svg.onblur = () => { cursor = null; drawAll(); };
  svg.onkeydown = (event) => {
    const [low, high] = view(), inside = [nearest(steps, low), nearest(steps, high)], stride = event.shiftKey ? 10 : 1;
    const around = cursor ?? high;
    const scale = (factor) => zoomTo(around - (around - low) * factor, around + (high - around) * factor);
    const move = (from, change) => { cursor = steps[clamp((cursor === null ? from : nearest(steps, cursor)) + change, ...inside)]; drawAll(); };
    const actions = {
      ArrowLeft: () => move(inside[1], -stride),
      ArrowRight: () => move(inside[0], stride),
      "+": () => scale(0.5), "=": () => scale(0.5), "-": () => scale(2), Escape: () => zoomTo(-Infinity, Infinity),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  };
}

function bounds(shown, log) { // y axis: all smoothed values, and the raw values without the extreme 1 % at either end
  const visible = (term, values) => values.slice(term.from, term.to + 1).filter((y) => y !== null && Number.isFinite(y));
  const raw = shown.flatMap((term) => visible(term, term.raw)).sort((a, b) => a - b);
  if (!raw.length) return [0, 1];
  const curve = shown.flatMap((term) => visible(term, term.curve));
  let low = raw[Math.floor(raw.length * 0.01)], high = raw[Math.ceil(raw.length * 0.99) - 1];
  for (const y of curve) { low = Math.min(low, y); high = Math.max(high, y); }
  if (!log && low > 0 && low < high / 2) low = 0;
  const pad = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [low === 0 ? 0 : low - pad, high + pad];
}

function draw(chart) {
  const size = {width: chart.svg.clientWidth, height: chart.svg.clientHeight}, {steps} = chart;
  const log = state.log && !chart.measured, smoothing = chart.measured ? 0 : state.smoothing;
  const scaled = (values) => log ? values.map((y) => (y > 0 ? Math.log10(y) : null)) : values;
  for (const term of chart.terms) {
    term.smoothed = smooth(term.values, smoothing);
    term.raw = scaled(term.values);
    term.curve = scaled(term.smoothed);
  }
  const shown = chart.terms.filter((term) => !state.hidden.includes(term.id));
  const [x0, x1] = view();
  for (const term of chart.terms) {
    term.from = Math.max(0, nearest(term.steps, x0) - 1);
    term.to = Math.min(term.steps.length - 1, nearest(term.steps, x1) + 1);
  }
  const [y0, y1] = bounds(shown, log);
  const inner = {width: size.width - MARGIN.left - MARGIN.right, height: size.height - MARGIN.top - MARGIN.bottom};
  const x = (step) => MARGIN.left + (step - x0) / (x1 - x0) * inner.width;
  const y = (value) => size.height - MARGIN.bottom - (value - y0) / (y1 - y0) * inner.height;
  const step = steps[nearest(steps, cursor ?? x1)];
  const clip = `clip-${charts.indexOf(chart)}`;
  // The clip path is wider than the axis, so that dots at the ends are not cut.
  const frame = `x="${MARGIN.left - 3}" y="${MARGIN.top}" width="${Math.max(0, inner.width + 6)}" height="${inner.height}"`;
  chart.svg.innerHTML = `<clipPath id="${clip}"><rect ${frame}/></clipPath>`
    + yAxis(y, log ? logTicks(y0, y1) : ticks(y0, y1, chart.measured ? 4 : 5), size, log)
    + xAxis(x, ticks(x0, x1, Math.max(3, size.width / 110)), size)
    + `<g clip-path="url(#${clip})">${curves(chart, shown, {x, y, step, smoothing, height: inner.height})}</g>`;
  showValues(chart, shown, step);
}

function yAxis(y, values, {width}, log) {
  return values.map((value) => {
    const label = log ? +(10 ** value).toPrecision(3) : value;
    const text = Math.abs(label) >= 1e5 || (label && Math.abs(label) < 1e-3) ? label.toExponential() : label;
    return `<line class="rule" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${y(value)}" y2="${y(value)}"/>`
      + `<text x="${MARGIN.left - 8}" y="${y(value) + 4}" text-anchor="end">${text}</text>`;
  }).join("");
}

function xAxis(x, values, {height}) {
  return values.map((value) => `<text x="${x(value)}" y="${height - 5}" text-anchor="middle">${shortStep(value)}</text>`).join("");
}

function curves(chart, shown, {x, y, step, smoothing, height}) {
  const path = (term, values) => {
    let line = "", pen = "M";
    for (let i = term.from; i <= term.to; i++) {
      if (values[i] === null) { pen = "M"; continue; }
      line += `${pen}${x(term.steps[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`;
      pen = "L";
    }
    return line;
  };
  const dot = (term, i, r) => term.curve[i] === null ? "" : `<circle r="${r}" fill="${term.colour}" cx="${x(term.steps[i])}" cy="${y(term.curve[i])}"/>`;
  let svg = "";
  for (const term of shown) if (smoothing > 0) svg += `<path class="raw" stroke="${term.colour}" d="${path(term, term.raw)}"/>`;
  for (const term of shown) svg += `<path class="curve" stroke="${term.colour}" d="${path(term, term.curve)}"/>`;
  if (chart.band) svg += `<rect class="band" x="${x(chart.band[0])}" y="${MARGIN.top}" width="${x(chart.band[1]) - x(chart.band[0])}" height="${height}"/>`;
  if (chart.measured) for (const term of shown) if (term.to - term.from < 100) for (let i = term.from; i <= term.to; i++) svg += dot(term, i, 2.2);
  if (cursor !== null) {
    svg += `<line class="cursor" x1="${x(step)}" x2="${x(step)}" y1="${MARGIN.top}" y2="${MARGIN.top + height}"/>`;
    for (const term of shown) svg += dot(term, nearest(term.steps, step), 3.5);
  }
  return svg;
}

function showValues(chart, shown, step) {
  const valueOf = (term) => format(term.smoothed[nearest(term.steps, step)]);
  chart.readout.textContent = `${alone(chart) ? `${valueOf(chart.terms[0])} · ` : ""}step ${step.toLocaleString("en")}`;
  for (const term of chart.terms) {
    term.button.setAttribute("aria-pressed", String(shown.includes(term)));
    term.button.lastChild.textContent = valueOf(term);
  }
}

function drawAll() {
  charts.forEach(draw);
  by("whole").disabled = state.zoom === null;
  by("smoothing-value").textContent = (+state.smoothing).toFixed(2);
}

function startCharts() {
  if (!charts.length) return;
  by("losses").hidden = !run.charts.length;
  by("measured").hidden = !run.figures.length;
  if (state.zoom && state.zoom[0] >= last) state.zoom = null; // the run was restarted from an earlier step
  by("smoothing").value = state.smoothing;
  by("log").checked = state.log;
  by("smoothing").oninput = (event) => { state.smoothing = +event.target.value; drawAll(); };
  by("log").onchange = (event) => { state.log = event.target.checked; drawAll(); };
  by("whole").onclick = () => zoomTo(-Infinity, Infinity);
  charts.forEach(build);
  new ResizeObserver(drawAll).observe(document.body);
  drawAll();
}

// ---- samples: one sheet for each run, all at the same step

const sampled = [...new Set(run.sheets.flatMap(({samples}) => samples.map(({step}) => step)))].sort((a, b) => a - b);
let film = null; // the timer of the film, while it plays

function sampleAt(sheet, step) { // the newest sample up to the step, or the first
  return sheet.samples.findLast((sample) => sample.step <= step) ?? sheet.samples[0];
}

function showSample(index) {
  const last = sampled.length - 1, step = sampled[index = clamp(index, 0, last)];
  state.sample = index === last ? null : step; // null: always show the newest, also when more samples arrive
  const slider = by("sample");
  slider.value = index;
  slider.setAttribute("aria-valuetext", `step ${step}`);
  for (const sheet of run.sheets) {
    const sample = sampleAt(sheet, step);
    sheet.link.href = sheet.image.src = sample.source;
    sheet.image.alt = `Sample grid of step ${sample.step}`;
    if (sheet.caption) sheet.caption.textContent = `${sheet.name} · step ${sample.step.toLocaleString("en")}`;
  }
  by("sample-count").textContent = `step ${step.toLocaleString("en")} · ${index + 1} of ${last + 1}`;
  by("previous").disabled = index === 0;
  by("next").disabled = index === last;
  for (const near of [index - 1, index + 1]) if (sampled[near]) preload(sampled[near]);
}

function preload(step) {
  for (const sheet of run.sheets) new Image().src = sampleAt(sheet, step).source;
}

function play() { // one sample after the other, from the first one if the last is shown
  const slider = by("sample");
  if (film !== null) return stopFilm();
  sampled.forEach(preload);
  if (+slider.value === sampled.length - 1) showSample(0);
  by("play").textContent = "Stop";
  film = setInterval(() => {
    showSample(+slider.value + 1);
    if (+slider.value === sampled.length - 1) stopFilm();
  }, FILM_PAUSE);
}

function stopFilm() {
  clearInterval(film);
  film = null;
  by("play").textContent = "Play";
}

function startSamples() {
  if (!sampled.length) return;
  const slider = by("sample"), move = (change) => { stopFilm(); showSample(+slider.value + change); };
  by("samples").hidden = false;
  document.querySelectorAll("#samples a").forEach((link, i) => {
    const sheet = run.sheets[i];
    [sheet.link, sheet.image, sheet.caption] = [link, link.firstChild, link.nextElementSibling];
    if (sheet.size) [sheet.image.width, sheet.image.height] = sheet.size;
  });
  slider.max = sampled.length - 1;
  slider.oninput = () => move(0);
  by("previous").onclick = () => move(-1);
  by("next").onclick = () => move(1);
  by("play").onclick = play;
  by("play").disabled = sampled.length < 2;
  addEventListener("keydown", (event) => {
    const change = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (change && document.activeElement === document.body && !event.altKey && !event.ctrlKey && !event.metaKey) move(change);
  });
  const kept = sampled.indexOf(state.sample);
  showSample(kept < 0 ? sampled.length - 1 : kept);
}

startCharts();
startSamples();
by("written").textContent = new Date(run.written * 1000).toLocaleString();
const config = by("config");
if (config) {
  config.open = state.config;
  config.ontoggle = () => { state.config = config.open; };
}
scrollTo(0, state.scroll);
addEventListener("pagehide", keep);
