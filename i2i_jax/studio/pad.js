// The square on which a click chooses a latent of two numbers: pointer and arrow keys move the point.

import {ARROWS, clamp} from "../pages/templates/painter/elements.js";

const REACH = 3; // standard deviations
const LEAP = 0.1; // of the arrow keys

/** Lets users move the point of pad.html, which shows `props.value`: {samples, z}. */
export function start(root, props, trigger) {
  const inReach = (number) => clamp(number, -REACH, REACH);

  function move(z) {
    props.value = {...props.value, z: z.map(inReach)};
    trigger("input");
  }

  function follow(event) {
    const box = root.querySelector("svg").getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    move([x, y].map((share) => (2 * share - 1) * REACH));
  }

  root.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("svg")) return;
    root.setPointerCapture(event.pointerId);
    follow(event);
  });
  root.addEventListener("pointermove", (event) => { if (root.hasPointerCapture(event.pointerId)) follow(event); });
  root.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const [dx, dy] = ARROWS[event.key], [x, y] = props.value.z;
    move([x + LEAP * dx, y - LEAP * dy]);
  });
}
