// What a link restores: seed, latents and drawing, in the part of the address that browsers do not send to the server.

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

function toText(bytes) { // base64, with the letters that addresses may have
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromText(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

/** A drawing as text: its colours, and which of them each pixel has, compressed. Null if there are more than 256, as in photos. */
export async function pack(pixels) {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, pixels.length / 4);
  const colours = new Map([...new Set(words)].map((word, i) => [word, i]));
  if (colours.size > 256) return null;
  const palette = new Uint8Array(Uint32Array.from(colours.keys()).buffer);
  const bytes = new Uint8Array([colours.size - 1, ...palette, ...Uint8Array.from(words, (word) => colours.get(word))]);
  return toText(await through(new CompressionStream("deflate-raw"), bytes));
}

/** The pixels of a drawing as text. Raises an error if it is damaged, or not of `size` pixels. */
export async function unpack(text, size) {
  const bytes = await through(new DecompressionStream("deflate-raw"), fromText(text));
  const start = 1 + 4 * (bytes[0] + 1);
  const palette = new Uint32Array(bytes.slice(1, start).buffer), indices = bytes.subarray(start);
  if (indices.length !== size || indices.some((index) => index >= palette.length)) throw new Error("the drawing has another size");
  const pixels = new Uint8ClampedArray(Uint32Array.from(indices, (index) => palette[index]).buffer);
  return pixels.map((value, i) => i % 4 === 3 ? 255 : value);
}

/** The fragment of an address. `own` are the latents that the seed does not give, by the answer's index. */
export function toFragment({seed, chosen, own, drawing}) {
  const latents = [...own].map(([index, z]) => [`z${index + 1}`, [...z].map((value) => +value.toPrecision(9)).join(",")]);
  const entries = [["seed", seed], ["chosen", chosen + 1], ...latents, ...drawing ? [["drawing", drawing]] : []];
  return entries.map(([name, value]) => `${name}=${value}`).join("&");
}

/** What a fragment says, or null if it is empty; entries that are not valid are left out. */
export function fromFragment(fragment, {answers, size}) {
  if (!fragment) return null;
  const entries = new Map(fragment.split("&").map((entry) => entry.split("=")));
  const whole = (text, below) => /^\d{1,10}$/.test(text) && Number(text) < below ? Number(text) : 0;
  const own = new Map();
  for (let index = 0; index < answers; index++) {
    const z = (entries.get(`z${index + 1}`) ?? "").split(",").map((text) => text ? Number(text) : NaN);
    if (z.length === size && z.every(Number.isFinite)) own.set(index, Float32Array.from(z));
  }
  return {
    seed: whole(entries.get("seed"), 2 ** 31),
    chosen: whole(entries.get("chosen") - 1, answers),
    own,
    drawing: entries.get("drawing"),
  };
}
