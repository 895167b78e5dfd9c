// The model's networks, computed by a worker.

import {toArrays, toClasses, toImage} from "./images.js";
import {mask} from "./latents.js";
import {colours, say, settings} from "./page.js";

const {width, height} = settings;
const worker = new Worker("networks.js", {type: "module"});
worker.addEventListener("error", ({message}) => say(`The model does not run in this browser: ${message || "its files cannot be loaded"}`));
let last = Promise.resolve(); // the worker computes one request at a time

function compute(request) {
  const answer = () => new Promise((resolve, reject) => {
    worker.onmessage = ({data}) => data.error ? reject(new Error(data.error)) : resolve(data.result);
    worker.postMessage(request);
  });
  last = last.then(answer, answer);
  return last;
}

/** The answer to a drawing's pixels, as ImageData; `seed` and `index` are those of its dropout. */
export async function translate(pixels, {z, seed, index}) {
  const image = settings.channels === "classes" ? toClasses(pixels, colours) : toArrays(pixels, settings.channels);
  const inputs = {image: [image, [1, image.length / (width * height), height, width]]};
  if (settings.latent) inputs.z = [z, [1, settings.latent]];
  for (const [name, shape] of Object.entries(settings.masks)) {
    inputs[name] = [mask(seed, index, name, shape.reduce((a, b) => a * b)), [1, ...shape]];
  }
  return toImage(await compute({file: "model.onnx", inputs, output: "translation"}), width, height);
}

/** The latent of a style's pixels, which have the encoder's size. */
export function encode(pixels) {
  const [height, width] = settings.encoded_size, channels = settings.encoded_channels;
  const image = [toArrays(pixels, channels), [1, channels, height, width]];
  return compute({file: "model.encoder.onnx", inputs: {image}, output: "mean"});
}
