// The worker that computes the networks, so that drawing never waits for them.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
ort.env.wasm.wasmPaths = {wasm: new URL("onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href};

const sessions = new Map();

function session(file) {
  if (!sessions.has(file)) sessions.set(file, ort.InferenceSession.create(file));
  return sessions.get(file);
}

/** Computes one output of an ONNX file. Inputs are [array, shape] by name. */
async function run({file, inputs, output}) {
  const tensors = Object.entries(inputs).map(([name, [array, shape]]) => [name, new ort.Tensor("float32", array, shape)]);
  const {[output]: result} = await (await session(file)).run(Object.fromEntries(tensors), [output]);
  return result.data;
}

addEventListener("message", async ({data}) => {
  try {
    postMessage({result: await run(data)});
  } catch (error) {
    sessions.delete(data.file);
    postMessage({error: error.message});
  }
});

session("model.onnx").catch(() => {}); // loads it at once; `run` reports what goes wrong
