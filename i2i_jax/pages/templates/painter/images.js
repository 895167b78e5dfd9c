// Picture files, RGBA pixels, and the networks' arrays [channels, height, width] in [-1, 1].

/** The pixels of a picture file, stretched to a size; with `exact`, no new colours arise. */
export async function read(file, width, height, {exact = false} = {}) {
  const bitmap = await createImageBitmap(file, {colorSpaceConversion: exact ? "none" : "default"});
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  Object.assign(context, {imageSmoothingEnabled: !exact, imageSmoothingQuality: "high"});
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

/** The arrays of a picture with 1 (grey) or 3 (colour) channels. */
export function toArrays(pixels, channels) {
  const size = pixels.length / 4, arrays = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    const [r, g, b] = pixels.subarray(4 * i);
    const values = channels === 1 ? [19595 * r + 38470 * g + 7471 * b + 32768 >> 16] : [r, g, b]; // grey as in Pillow
    values.forEach((value, channel) => { arrays[channel * size + i] = Math.fround(value / 127.5) - 1; });
  }
  return arrays;
}

/** The arrays of a label map: 1 in the channel of a pixel's class, -1 in the others. */
export function toClasses(pixels, colours) {
  const size = pixels.length / 4, arrays = new Float32Array(colours.length * size).fill(-1);
  const packed = (rgb) => rgb[0] << 16 | rgb[1] << 8 | rgb[2];
  const channels = new Map(colours.map((colour, channel) => [packed(colour), channel]));
  for (let i = 0; i < size; i++) arrays[channels.get(packed(pixels.subarray(4 * i))) * size + i] = 1;
  return arrays;
}

/** The picture of arrays with 1 or 3 channels. */
export function toImage(arrays, width, height) {
  const size = width * height, last = arrays.length / size - 1, image = new ImageData(width, height);
  for (let i = 0; i < size; i++) {
    for (let channel = 0; channel < 3; channel++) image.data[4 * i + channel] = (arrays[Math.min(channel, last) * size + i] + 1) * 127.5;
    image.data[4 * i + 3] = 255;
  }
  return image;
}
