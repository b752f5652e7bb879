// Strokes on a pad of 28 × 28, and the picture that the network gets of them: 28 × 28 grey levels, prepared as MNIST's
// were. A stroke is a list of points [x, y].

const FIELD = 28;
const BOX = 20; // MNIST scales a digit, its pen included, until it just fits into 20 × 20 ...
const CENTRE = 14.5; // ... and brings its centre of mass next to the middle of pixel 14 of 0 ... 27
const PEN = 2.6; // as wide as MNIST's strokes are at that size, however large the digit was drawn
const SMALLEST = 3; // what is smaller on the pad is not scaled up any further: a dot stays a dot

/** Grey levels from 0 to 255 of strokes drawn with a round pen that fades over one pixel. */
function ink(strokes) {
  const picture = new Uint8Array(FIELD * FIELD);
  const segments = strokes.flatMap((points) => points.map((point, k) => [points[Math.max(0, k - 1)], point]));
  for (const [[x0, y0], [x1, y1]] of segments) {
    const [dx, dy] = [x1 - x0, y1 - y0];
    const square = dx * dx + dy * dy;
    const reach = PEN / 2 + 1;
    const range = (a, b) => [Math.max(0, Math.floor(Math.min(a, b) - reach)), Math.min(FIELD, Math.max(a, b) + reach)];
    const [[left, right], [top, bottom]] = [range(x0, x1), range(y0, y1)];
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++) {
        const [px, py] = [x + 0.5 - x0, y + 0.5 - y0]; // from the segment's start to the pixel's middle
        const along = square ? Math.max(0, Math.min(1, (px * dx + py * dy) / square)) : 0;
        const distance = Math.hypot(px - along * dx, py - along * dy);
        const level = Math.round(255 * Math.max(0, Math.min(1, PEN / 2 + 0.5 - distance)));
        picture[y * FIELD + x] = Math.max(picture[y * FIELD + x], level);
      }
  }
  return picture;
}

/** The strokes scaled to MNIST's box and drawn with their centre of mass where MNIST has it; null without strokes. */
function prepare(strokes) {
  const points = strokes.flat();
  if (!points.length) return null;
  const bounds = [0, 1].map((axis) => points.map((point) => point[axis]))
    .map((values) => [Math.min(...values), Math.max(...values)]);
  const size = Math.max(SMALLEST, ...bounds.map(([least, most]) => most - least));
  const scale = (BOX - PEN - 1) / size; // the pen fades over half a pixel on either side
  const boxed = strokes.map((stroke) => stroke.map((point) => point.map((v, axis) => {
    const [least, most] = bounds[axis];
    return FIELD / 2 + scale * (v - (least + most) / 2);
  })));
  const picture = ink(boxed);
  let [mass, x, y] = [0, 0, 0];
  picture.forEach((level, k) => {
    mass += level;
    x += level * ((k % FIELD) + 0.5);
    y += level * (Math.floor(k / FIELD) + 0.5);
  });
  const shift = [x, y].map((v) => Math.round(CENTRE - v / mass)); // by whole pixels, as in MNIST
  return ink(boxed.map((stroke) => stroke.map((point) => point.map((v, axis) => v + shift[axis]))));
}
