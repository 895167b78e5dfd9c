// The chosen answer's latent: a slider for each number, and a pad where there are two.

import {ARROWS, by, clamp, element} from "./elements.js";
import {settings} from "./page.js";

const REACH = 3; // standard deviations
const STEP = 0.01, LEAP = 0.1; // of sliders, and of arrow keys on the pad

const inReach = (value) => clamp(value, -REACH, REACH);

export function connectSliders(answers) {
  const sliders = Array.from({length: settings.latent}, (_, i) => {
    const slider = element("input", {type: "range", min: -REACH, max: REACH, step: STEP, ariaLabel: `z${i + 1}`});
    const shown = element("output");
    slider.addEventListener("input", () => answers.setLatent(answers.z(answers.chosen).with(i, slider.value)));
    by("sliders").append(element("label", {}, `z${i + 1} `, slider, " ", shown));
    return {slider, shown};
  });

  function show() {
    const z = answers.z(answers.chosen);
    by("chosen").textContent = `Answer ${answers.chosen + 1} is chosen: other z give other answers. ${by("pad") ? "Drag its point, or use" : "Use"} the sliders.`;
    sliders.forEach(({slider, shown}, i) => {
      slider.value = z[i];
      shown.textContent = z[i].toFixed(2);
    });
  }

  answers.addEventListener("change", show);
  show();
}

export function connectPad(answers) {
  const pad = by("pad");
  const points = answers.shown.map((_, i) => {
    const point = document.createElementNS("http://www.w3.org/2000/svg", "g");
    point.innerHTML = `<circle r="0.3"></circle><text dy="0.12">${i + 1}</text>`;
    pad.append(point);
    return point;
  });

  function show() {
    points.forEach((point, i) => {
      const [x, y] = [...answers.z(i)].map(inReach);
      point.setAttribute("transform", `translate(${x} ${-y})`);
      point.classList.toggle("chosen", i === answers.chosen);
    });
  }

  function moveTo(event) {
    const box = pad.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    answers.setLatent(shares.map((share) => inReach((2 * share - 1) * REACH)));
  }

  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    const point = points.findIndex((each) => each.contains(event.target));
    if (point >= 0) answers.choose(point); else moveTo(event);
  });
  pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) moveTo(event); });
  pad.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const [dx, dy] = ARROWS[event.key], [x, y] = answers.z(answers.chosen);
    answers.setLatent([x + LEAP * dx, y - LEAP * dy].map(inReach));
  });
  answers.addEventListener("change", show);
  show();
}
