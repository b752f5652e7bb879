// Circles of a disk and of a ring around it, carried by n residual layers and by the flow that they approach.
// `data.fields` holds, by the number of dimensions, the weights of tanh networks f(z, t), [[W, b], [W, b]], and of the
// linear classifier behind them, [W, b]; `data.radii` the circles: those from 1 on belong to the ring. Needs
// runge-kutta.js.

const MOST_LAYERS = 64;
const POINTS = 180; // of a circle
const HALF = 200; // half the side of the picture, in its own units

const affine = ([W, b], x) => W.map((row, i) => row.reduce((sum, w, j) => sum + w * x[j], b[i]));

/** The velocity of the state z at time t. */
function velocity({ net: [inner, outer] }, t, z) {
  return affine(outer, affine(inner, [...z, t]).map(Math.tanh));
}

/** The states before, between and after n residual layers z + f(t, z) / n. */
function layers(field, z, n) {
  const states = [z];
  for (let k = 0; k < n; k++) states.push((z = combine(z, 1 / n, [1], [velocity(field, k / n, z)])));
  return states;
}

/** The states at n + 1 equal times of the flow. */
function flow(field, z, n) {
  return stops(solve((t, state) => velocity(field, t, state), z, { method: RK4, steps: n }));
}

/** A circle of the plane, as points with as many zeros appended as `dimensions` asks for. */
function circle(radius, dimensions) {
  return Array.from({ length: POINTS }, (_, k) => {
    const angle = (2 * Math.PI * k) / POINTS;
    return [radius * Math.cos(angle), radius * Math.sin(angle), ...Array(dimensions - 2).fill(0)];
  });
}

/** The class that the classifier says. */
function classified({ head }, z) {
  const [zero, one] = affine(head, z);
  return Number(one > zero);
}

const fromTheSide = ([x, y, up]) => (up === undefined ? [x, y] : [x + 0.3 * y, 0.4 * y + 0.8 * up]);

function show(root, data) {
  root.insertAdjacentHTML("beforeend", `
    <div class="moving depth">
      <svg viewBox="${-HALF} ${-HALF} ${2 * HALF} ${2 * HALF}" role="img" aria-label="circles, carried by the layers">
        <g class="reference"></g><g class="carried"></g><path class="line"/>
      </svg>
      <div class="controls">
        <label>the state has <select name="dimensions"><option value="2">2 dimensions</option>
          <option value="3">2 dimensions and a zero</option></select></label>
        <label>layers <input name="layers" type="range" min="1" max="${MOST_LAYERS}" value="4"></label>
        <label>layers passed <input name="passed" type="range" min="0" max="4" value="4"></label>
        <p class="key"><i class="disk"></i> the disk, <i class="ring"></i> the ring <br><i class="faint"></i> where the flow carries them
          <span class="line"><br><i class="line"></i> the classifier's line</span></p>
        <output aria-live="polite"></output>
      </div>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [dimensions, count, passed, said] = ["[name=dimensions]", "[name=layers]", "[name=passed]", "output"].map(find);
  let field, curves, reference, scale, middle;

  const at = (z) => fromTheSide(z).map((v, i) => {
    const pixels = (i ? -1 : 1) * (v - middle[i]) * scale;
    return Math.max(-1e4, Math.min(1e4, pixels)).toFixed(1);
  });
  const closed = (points) => `M${points.map((z) => at(z).join(" ")).join("L")}Z`;
  const path = (name, points) => `<path class="${name}" d="${closed(points)}"/>`;
  const named = (radius) => (radius < 1 ? "disk" : "ring");

  function choose() {
    const d = Number(dimensions.value);
    field = data.fields[d];
    curves = data.radii.map((radius) => circle(radius, d));
    reference = curves.map((points) => points.map((z) => flow(field, z, 32)));
    const seen = reference.flat().flatMap((states) => [0, 8, 16, 24, 32].map((k) => fromTheSide(states[k])));
    const [low, high] = [Math.min, Math.max].map((extreme) => [0, 1].map((i) => seen.reduce((m, p) => extreme(m, p[i]), seen[0][i])));
    middle = [0, 1].map((i) => (low[i] + high[i]) / 2);
    scale = (0.92 * 2 * HALF) / Math.max(high[0] - low[0], high[1] - low[1]);
    const [[v, w], [b, c]] = field.head; // the line is where (w - v) . z + (c - b) = 0
    const [nx, ny] = [w[0] - v[0], w[1] - v[1]];
    const foot = [nx, ny].map((n) => (-n * (c - b)) / (nx * nx + ny * ny));
    const along = [-ny, nx].map((n) => (10 * n) / Math.hypot(nx, ny));
    find("path.line").setAttribute("d", `M${at(foot.map((p, i) => p - along[i]))}L${at(foot.map((p, i) => p + along[i]))}`);
    root.querySelectorAll(".line").forEach((e) => { e.style.display = d === 2 ? "" : "none"; });
    draw();
  }

  function draw() {
    const n = Number(count.value), k = Number(passed.value);
    const states = curves.map((points) => points.map((z) => layers(field, z, n)));
    const share = Math.round((32 * k) / n);
    find("g.reference").innerHTML = reference.map((curve, i) => path(named(data.radii[i]), curve.map((s) => s[share]))).join("");
    find("g.carried").innerHTML = states.map((curve, i) => path(named(data.radii[i]), curve.map((s) => s[k]))).join("");
    let right = 0, farthest = 0;
    states.forEach((curve, i) => curve.forEach((s, j) => {
      right += classified(field, s[n]) === Number(data.radii[i] >= 1);
      farthest = Math.max(farthest, Math.hypot(...s[n].map((v, axis) => v - reference[i][j][32][axis])));
    }));
    const total = states.length * POINTS;
    said.textContent = `${n} ${n === 1 ? "layer" : "layers"}, ${k} passed\nat the end ${((100 * right) / total).toFixed(1)} % on their side\n`
      + `farthest from the flow: ${farthest.toPrecision(2)}`;
  }

  dimensions.addEventListener("change", choose);
  count.addEventListener("input", () => {
    passed.max = count.value;
    passed.value = count.value;
    draw();
  });
  passed.addEventListener("input", draw);
  choose();
}
