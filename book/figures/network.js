// The network that was trained on MNIST, for one image, in plain JavaScript: what odelib's models.py, layers.py and
// odefunc.py compute. A state is a Float64Array, channel after channel, row after row: 64 channels of 6 × 6 numbers.

const GROUPS = 32;
const EPS = 1e-5; // PyTorch's, in GroupNorm
const SIDE = 6; // of the state

/** The network from its bytes, all low ones before all high ones, cut into the tensors that `shapes` names in order. */
function network(bytes, shapes) {
  const n = bytes.length / 2;
  const numbers = Float32Array.from({ length: n }, (_, k) => half(bytes[k], bytes[n + k])); // half: bytes.js
  const tensors = {};
  let start = 0;
  for (const [name, shape] of shapes) {
    const length = shape.reduce((a, b) => a * b, 1);
    tensors[name] = numbers.subarray(start, (start += length));
  }
  const layer = (name) => ({ weight: tensors[`${name}.weight`], bias: tensors[`${name}.bias`] });
  const strided = (name) => ({ ...layer(name), kernel: 4, stride: 2, padding: 1 });
  return {
    stem: [
      { ...layer("stem.0"), kernel: 3, stride: 1, padding: 0 }, layer("stem.1"),
      strided("stem.3"), layer("stem.4"), strided("stem.6"),
    ],
    f: {
      norms: [1, 2, 3].map((k) => layer(`block.f.norm${k}`)),
      convolutions: [1, 2].map((k) => withClock(layer(`block.f.conv${k}.conv`))),
    },
    head: { norm: layer("head.0"), linear: layer("head.4") },
  };
}

/** A convolution of 65 channels, whose first is the time: that of the other 64, and what it makes of a time of 1. */
function withClock({ weight, bias }) {
  const [kernel, taps] = [3, 9];
  const length = weight.length / bias.length; // of one output's weights: 65 · 9
  const cut = (from, to) => Float32Array.from(
    { length: bias.length * (to - from) },
    (_, k) => weight[Math.floor(k / (to - from)) * length + from + (k % (to - from))],
  );
  const clock = { weight: cut(0, taps), bias: new Float64Array(bias.length), kernel, stride: 1, padding: 1 };
  const ones = new Float64Array(SIDE * SIDE).fill(1);
  return { weight: cut(taps, length), bias, kernel, stride: 1, padding: 1, clock: convolve(ones, SIDE, clock) };
}

/** The convolution of an image of size × size pixels, a row of numbers for each channel. */
function convolve(x, size, { weight, bias, kernel, stride, padding }) {
  const channels = x.length / size ** 2;
  const side = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const [pixels, length] = [side * side, channels * kernel * kernel];
  const patches = new Float32Array(pixels * length); // what every pixel of the result sees
  let at = 0;
  for (let row = -padding; row < side * stride - padding; row += stride)
    for (let column = -padding; column < side * stride - padding; column += stride)
      for (let c = 0; c < channels; c++)
        for (let y = row; y < row + kernel; y++)
          for (let x0 = column; x0 < column + kernel; x0++, at++)
            if (y >= 0 && y < size && x0 >= 0 && x0 < size) patches[at] = x[(c * size + y) * size + x0];
  const result = new Float64Array(bias.length * pixels);
  for (let o = 0; o < bias.length; o += 4) // four channels at once: a number of a patch is read once for four
    for (let p = 0; p < pixels; p++) {
      let s0 = bias[o], s1 = bias[o + 1], s2 = bias[o + 2], s3 = bias[o + 3];
      let w0 = o * length, w1 = w0 + length, w2 = w1 + length, w3 = w2 + length;
      for (let k = p * length; k < (p + 1) * length; k++, w0++, w1++, w2++, w3++) {
        const seen = patches[k];
        s0 += seen * weight[w0];
        s1 += seen * weight[w1];
        s2 += seen * weight[w2];
        s3 += seen * weight[w3];
      }
      result[o * pixels + p] = s0;
      result[(o + 1) * pixels + p] = s1;
      result[(o + 2) * pixels + p] = s2;
      result[(o + 3) * pixels + p] = s3;
    }
  return result;
}

/** Every group of channels with mean 0 and variance 1, then scaled and shifted channel by channel. */
function groupNorm(x, { weight, bias }) {
  const [length, pixels] = [x.length / GROUPS, x.length / weight.length];
  const result = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += length) {
    const group = x.subarray(start, start + length);
    const mean = group.reduce((a, b) => a + b, 0) / length;
    const variance = group.reduce((sum, v) => sum + (v - mean) ** 2, 0) / length;
    const scale = 1 / Math.sqrt(variance + EPS);
    for (let k = start; k < start + length; k++) {
      const c = Math.floor(k / pixels);
      result[k] = (x[k] - mean) * scale * weight[c] + bias[c];
    }
  }
  return result;
}

const relu = (x) => x.map((v) => (v > 0 ? v : 0));

/** z(0) from 28 × 28 pixels between 0 and 1. */
function stem({ stem: [conv1, norm1, conv2, norm2, conv3] }, image) {
  const at26 = relu(groupNorm(convolve(image, 28, conv1), norm1));
  const at13 = relu(groupNorm(convolve(at26, 26, conv2), norm2));
  return convolve(at13, 13, conv3);
}

/** f(t, z), the velocity of the state. */
function velocity({ f: { norms, convolutions } }, t, z) {
  for (const [k, convolution] of convolutions.entries()) {
    z = convolve(relu(groupNorm(z, norms[k])), SIDE, convolution);
    for (let i = 0; i < z.length; i++) z[i] += t * convolution.clock[i];
  }
  return groupNorm(z, norms[2]);
}

/** The mean of every channel over the image. */
function pooled(z) {
  const pixels = SIDE * SIDE;
  return Float64Array.from({ length: z.length / pixels },
    (_, c) => z.subarray(c * pixels, (c + 1) * pixels).reduce((a, b) => a + b, 0) / pixels);
}

/** The ten logits that the head reads off a state. */
function logits({ head: { norm, linear } }, z) {
  const features = pooled(relu(groupNorm(z, norm)));
  return Array.from(linear.bias, (b, i) =>
    features.reduce((sum, x, c) => sum + x * linear.weight[i * features.length + c], b));
}

/** Probabilities from logits. */
function softmax(values) {
  const powers = values.map((v) => Math.exp(v - Math.max(...values)));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}
