// The answers to the drawing, each with its latent. They are computed again whenever drawing or latents change.

import {by, element} from "./elements.js";
import {latents} from "./latents.js";
import {translate} from "./model.js";
import {say, settings} from "./page.js";

const DELAY = 40; // ms from a change to the first new answer, so that quick changes are one

/** Fires `change` when seed, latents or the choice have changed. */
export class Answers extends EventTarget {
  /** @param drawing whose pixels are translated, once there is a picture. */
  constructor(drawing) {
    super();
    Object.assign(this, {drawing, seed: 0, chosen: 0, own: new Map(), stale: new Set(), following: false});
    this.shown = Array.from({length: settings.answers}, (_, i) => {
      const canvas = element("canvas", {width: drawing.width, height: drawing.height});
      const button = element("button", {className: "answer", ariaLabel: `Answer ${i + 1}`, onclick: () => this.choose(i)}, canvas);
      if (settings.answers > 1) button.append(element("span", {className: "number", textContent: i + 1}));
      by("answers").append(button);
      return {button, canvas};
    });
    this.restore({seed: 0, chosen: 0, own: new Map()});
  }

  /** The latent of an answer: its own, if it was given one, else the seed's. */
  z(index) {
    return this.own.get(index) ?? this.ofSeed[index];
  }

  /** Sets the seed, which answer is chosen, and the latents of `own`, by the answer's index. */
  restore({seed, chosen, own}) {
    Object.assign(this, {seed, own, ofSeed: latents(seed, settings.answers, settings.latent)});
    this.choose(chosen);
    this.refresh();
  }

  choose(index) {
    this.chosen = index;
    this.shown.forEach(({button}, i) => { button.ariaPressed = String(i === index); });
    this.dispatchEvent(new Event("change"));
  }

  /** Gives the chosen answer a latent. */
  setLatent(z) {
    this.own.set(this.chosen, Float32Array.from(z));
    this.dispatchEvent(new Event("change"));
    this.refresh(this.chosen);
  }

  /** Computes an answer again, or all. Until that is done, the element is busy. */
  refresh(index) {
    if (this.drawing.empty) return;
    for (const each of index === undefined ? this.shown.keys() : [index]) this.stale.add(each);
    by("answers").ariaBusy = "true";
    if (!this.following) setTimeout(() => this.follow(), DELAY);
    this.following = true;
  }

  async follow() {
    try {
      while (this.stale.size) {
        const [index] = this.stale;
        this.stale.delete(index);
        const image = await translate(this.drawing.pixels, {z: this.z(index), seed: this.seed, index});
        this.shown[index].canvas.getContext("2d").putImageData(image, 0, 0);
        by("loading")?.remove();
      }
      by("answers").ariaBusy = "false";
    } catch (error) {
      say(`The model does not run in this browser: ${error.message}`);
    }
    this.following = false;
  }
}
