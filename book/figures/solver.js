// A field of the plane, followed by a Runge-Kutta method step by step. `data.methods` holds odelib's tableaus by name.

const FIELDS = {
  rotation: { rule: "x′ = −y, y′ = x", f: ([x, y]) => [-y, x], start: [1, 0], time: 2 * Math.PI, reach: 3 },
  pendulum: {
    rule: "x′ = y, y′ = −sin x − 0.3 y", f: ([x, y]) => [y, -Math.sin(x) - 0.3 * y],
    start: [-2.5, 0], time: 12, reach: 4,
  },
  "Van der Pol": {
    rule: "x′ = y, y′ = 2 (1 − x²) y − x", f: ([x, y]) => [y, 2 * (1 - x * x) * y - x],
    start: [0.5, 0], time: 8, reach: 4.5,
  },
};

/** The state after one step from z; `a` and `b` are those of odelib.solvers.Tableau. */
function step(f, z, h, { a, b }) {
  const combine = (weights, stages) =>
    z.map((zi, i) => weights.reduce((sum, weight, j) => sum + h * weight * stages[j][i], zi));
  const stages = [];
  for (const row of a) stages.push(f(combine(row, stages)));
  return combine(b, stages);
}

/** The states of n equal steps from z over `time`, up to the first one that is not finite. */
function integrate(f, z, time, n, tableau) {
  const states = [z];
  while (states.length <= n) {
    z = step(f, z, time / n, tableau);
    if (!z.every(Number.isFinite)) break;
    states.push(z);
  }
  return states;
}

const ACCURATE_STEPS = 4000;
const SIZE = 200; // half the side of the picture, in its own units
const [MOST_STEPS, FEWEST_STEPS] = [200, 4];

function show(root, data) {
  const options = (names) => Object.keys(names).map((name) => `<option>${name}</option>`).join("");
  root.insertAdjacentHTML("beforeend", `
    <div class="moving solver">
      <svg viewBox="${-SIZE} ${-SIZE} ${2 * SIZE} ${2 * SIZE}">
        <path class="field"/><path class="accurate"/><path class="gap"/><path class="taken"/><g class="dots"></g>
        <g class="start" tabindex="0" role="slider" aria-roledescription="point of the plane"
          aria-label="start: arrow keys move it"><circle class="grip" r="24"/><circle r="7"/></g>
      </svg>
      <div class="controls">
        <label>field <select name="field">${options(FIELDS)}</select></label>
        <p class="rule"></p>
        <label>solver <select name="method">${options(data.methods)}</select></label>
        <label>step size <input name="size" type="range" min="0" max="100" value="59"></label>
        <p class="key"><i class="taken"></i> the solver's steps <br><i class="accurate"></i> the exact path
          <br><i class="gap"></i> the error at the end</p>
        <output aria-live="polite"></output>
      </div>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [svg, handle, size, said] = ["svg", ".start", "[name=size]", "output"].map(find);
  let field, start;

  const at = (z) => z.map((zi, i) => {
    const pixels = ((i ? -1 : 1) * zi * SIZE) / field.reach;
    return Math.max(-1e4, Math.min(1e4, pixels)).toFixed(1); // paths cannot be drawn to very distant points
  });
  const path = (states) => `M${states.map((z) => at(z).join(" ")).join("L")}`;

  function drawField() {
    const cells = Array.from({ length: 17 }, (_, k) => ((k - 8) / 8.5) * field.reach);
    find("path.field").setAttribute("d", cells.flatMap((x) => cells.map((y) => {
      const v = field.f([x, y]);
      const speed = Math.hypot(...v);
      if (speed < 1e-9) return "";
      const [dx, dy] = v.map((vi) => (vi / speed) * 0.035 * field.reach);
      const barb = (side) => [x + 0.2 * dx - side * 0.5 * dy, y + 0.2 * dy + side * 0.5 * dx];
      const tip = [x + dx, y + dy];
      return path([[x - dx, y - dy], tip]) + path([barb(1), tip, barb(-1)]);
    })).join(""));
  }

  function draw() {
    const n = Math.round(MOST_STEPS * (FEWEST_STEPS / MOST_STEPS) ** (size.value / 100));
    const tableau = data.methods[find("[name=method]").value];
    const accurate = integrate(field.f, start, field.time, ACCURATE_STEPS, data.methods.rk4);
    const states = integrate(field.f, start, field.time, n, tableau);
    find("path.accurate").setAttribute("d", path(accurate.filter((_, k) => k % 10 === 0)));
    find("path.taken").setAttribute("d", path(states));
    find("g.dots").innerHTML = states.slice(1).map((z) => {
      const [x, y] = at(z);
      return `<circle cx="${x}" cy="${y}" r="3"/>`;
    }).join("");
    const [end, goal] = [states.at(-1), accurate.at(-1)];
    const arrived = states.length > n && accurate.length > ACCURATE_STEPS;
    find("path.gap").setAttribute("d", arrived ? path([end, goal]) : "");
    handle.setAttribute("transform", `translate(${at(start)})`);
    handle.setAttribute("aria-valuenow", start[0].toFixed(2));
    handle.setAttribute("aria-valuetext", `x ${start[0].toFixed(2)}, y ${start[1].toFixed(2)}`);
    const h = (field.time / n).toPrecision(2);
    size.setAttribute("aria-valuetext", h);
    const error = arrived ? Math.hypot(end[0] - goal[0], end[1] - goal[1]) : Infinity;
    const result = error < 1000 ? `error at t = ${field.time.toPrecision(3)}: ${error.toPrecision(2)}` : "the states explode";
    said.textContent = `h = ${h}, ${n} steps, NFE ${n * tableau.b.length}\n${result}`;
  }

  function choose() {
    field = FIELDS[find("[name=field]").value];
    start = field.start;
    find(".rule").textContent = field.rule;
    drawField();
    draw();
  }

  function moveTo(z) {
    start = z.map((zi) => Math.max(-field.reach, Math.min(field.reach, zi)));
    draw();
  }

  function moveToPointer(event) {
    const box = svg.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    moveTo([(2 * share[0] - 1) * field.reach, (1 - 2 * share[1]) * field.reach]);
  }

  find("[name=field]").addEventListener("change", choose);
  find("[name=method]").addEventListener("change", draw);
  size.addEventListener("input", draw);
  svg.addEventListener("click", moveToPointer);
  handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false }); // drag, do not scroll
  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) moveToPointer(event);
  });
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    moveTo(start.map((zi, i) => zi + 0.02 * field.reach * KEYS[event.key][i]));
  });
  choose();
}
