"use strict";

const RELOAD_AFTER = 30_000, QUIET_FOR = 5_000; // ms

let active = -Infinity;
for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"]) {
  addEventListener(kind, () => { active = performance.now(); }, {passive: true});
}

function showAge() {
  const minutes = Math.floor((Date.now() / 1000 - run.written) / 60);
  by("news").textContent = run.finished || minutes < 5 ? "" : `· no update for ${minutes < 120 ? `${minutes} minutes` : `${Math.floor(minutes / 60)} hours`}`;
}

function reloadWhenQuiet() {
  showAge();
  const now = performance.now();
  if (now > RELOAD_AFTER && !document.hidden && now - active > QUIET_FOR && film === null) location.reload();
}

showAge();
if (!run.finished) setInterval(reloadWhenQuiet, 2_000);
