// The random numbers of jax: a seed gives the same latents as `i2i translate --sync --seed=SEED` and the studio.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];

/** Threefry-2x32 with 20 rounds (Salmon 2011): encrypts a pair of 32-bit numbers under a key, which is such a pair too. */
function threefry([key0, key1], [x0, x1]) {
  const keys = [key0, key1, key0 ^ key1 ^ 0x1bd11bda];
  x0 = x0 + keys[0] | 0;
  x1 = x1 + keys[1] | 0;
  for (let i = 0; i < 5; i++) {
    for (const rotation of ROTATIONS[i % 2]) {
      x0 = x0 + x1 | 0;
      x1 = (x1 << rotation | x1 >>> 32 - rotation) ^ x0;
    }
    x0 = x0 + keys[(i + 1) % 3] | 0;
    x1 = x1 + keys[(i + 2) % 3] + i + 1 | 0;
  }
  return [x0, x1];
}

/** 32 random bits. */
function bits(key, index) {
  const [high, low] = threefry(key, [0, index]);
  return (high ^ low) >>> 0;
}

/** The inverse of the error function (Giles 2010, in single precision). */
function inverseErf(x) {
  const w = -Math.log1p(-Math.fround(x * x)); // rounded as in jax: it matters near 1
  const polynomial = (t, coefficients) => coefficients.reduce((sum, coefficient) => sum * t + coefficient);
  return x * (w < 5
    ? polynomial(w - 2.5, [2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3, -4.17768164e-3,
      0.246640727, 1.50140941])
    : polynomial(Math.sqrt(w) - 3, [-2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3,
      9.43887047e-3, 1.00167406, 2.83297682]));
}

/** A number from a standard normal distribution. */
function normal(key, index) {
  const smallest = -1 + 2 ** -24;
  const uniform = (bits(key, index) >>> 9) / 2 ** 23; // in [0, 1)
  return Math.SQRT2 * inverseErf(Math.max(smallest, Math.fround(2 * uniform + smallest)));
}

/** `count` latents of `size` numbers; the first are the same for every `count`. */
export function latents(seed, count, size) {
  const split = threefry([0, seed], [0, 0]); // the first of two new keys
  const key = threefry(split, [0, 0]); // that of input 0
  return Array.from({length: count}, (_, i) => Float32Array.from({length: size}, (_, j) => normal(key, i * size + j)));
}

/** A dropout mask of 0 and 2, equally likely. The package's masks of a seed are others. */
export function mask(seed, answer, name, size) {
  const key = threefry([0, seed], [answer + 1, Number(name.split("_")[1])]);
  return Float32Array.from({length: size}, (_, i) => bits(key, i) & 2);
}
