// dopri5 with its step control on one equation. `data` is odelib's tableau: `a`, `b`, `c`, `error`, `dense`, `order`.

const EQUATIONS = {
  "Van der Pol": { rule: "x′ = v, v′ = 6 (1 − x²) v − x", f: (t, [x, v]) => [v, 6 * (1 - x * x) * v - x], start: [2, 0], end: 16 },
  "a calm one": { rule: "x′ = cos(3t) exp(−x)", f: (t, [x]) => [Math.cos(3 * t) * Math.exp(-x)], start: [0.5], end: 1 },
  "a stiff one": { rule: "x′ = −50 (x − cos t)", f: (t, [x]) => [-50 * (x - Math.cos(t))], start: [0], end: 3 },
};

/** z + h sum_i weights_i stages_i. */
function combine(z, h, weights, stages) {
  return z.map((zi, i) => weights.reduce((sum, weight, j) => sum + h * weight * stages[j][i], zi));
}

/** Root mean square of `error` over the tolerance at the states z and y. */
function ratioOf(error, z, y, tolerance) {
  const squares = error.map((e, i) => (e / (tolerance * (1 + Math.max(Math.abs(z[i]), Math.abs(y[i]))))) ** 2);
  return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length);
}

/** How large the next step shall be, over this one: odelib.solvers.Controller. */
function factor(ratio, previous, order) {
  const rule = 0.9 * Math.max(ratio, 1e-10) ** -(1 / order - 0.03) * Math.max(previous, 1e-4) ** 0.04;
  return Math.min(Math.max(rule, 0.2), 10);
}

/** The first step to try: odelib.solvers.initial_step. */
function firstStep(f, room, z, f0, order, tolerance) {
  const [size, speed] = [ratioOf(z, z, z, tolerance), ratioOf(f0, z, z, tolerance)];
  const trial = Math.min(size > 1e-5 && speed > 1e-5 ? (0.01 * size) / speed : 1e-6, room);
  const change = f(trial, combine(z, trial, [1], [f0])).map((v, i) => v - f0[i]);
  const steepest = Math.max(speed, ratioOf(change, z, z, tolerance) / trial);
  const best = steepest > 1e-15 ? (0.01 / steepest) ** (1 / order) : Math.max(1e-6, trial * 1e-3);
  return Math.min(100 * trial, best, room);
}

/**
 * From z at t = 0 to `end`: every step tried, the state at `end`, NFE, and the latest time at which f was asked.
 * With `past` the last step goes where it likes, and the state at `end` is interpolated.
 */
function solve({ f, start, end }, tolerance, tableau, past, mostSteps = 5000) {
  let nfe = 0, latest = 0;
  const counted = (t, z) => {
    nfe += 1;
    latest = Math.max(latest, t);
    return f(t, z);
  };
  let t = 0, z = start, first = counted(t, z), previous = 1;
  let h = firstStep(counted, past ? Infinity : end, z, first, tableau.order, tolerance);
  const steps = [];
  while (steps.length < mostSteps) {
    const last = !past && end - t <= 1.01 * h;
    const next = last ? end : t + h;
    h = next - t;
    const stages = [first];
    let y = z;
    for (let i = 1; i < tableau.b.length; i++) {
      y = combine(z, h, tableau.a[i], stages);
      stages.push(counted(tableau.c[i] === 1 ? next : t + tableau.c[i] * h, y));
    }
    const zero = z.map(() => 0);
    const ratio = ratioOf(combine(zero, h, tableau.error, stages), z, y, tolerance);
    const accepted = ratio <= 1;
    steps.push({ t, h, accepted, z, next: y });
    if (accepted) {
      const f1 = stages.at(-1);
      if (next >= end) {
        const result = next === end ? y : interpolate((end - t) / h, h, z, y, stages, f1, tableau);
        return { steps, result, nfe, latest };
      }
      [t, z, first] = [next, y, f1];
    }
    h *= Number.isFinite(ratio) ? factor(ratio, previous, tableau.order) : 0.2;
    if (accepted) previous = ratio;
  }
  return { steps, result: null, nfe, latest };
}

/** The state at share x of a step: odelib.solvers.interpolate. */
function interpolate(x, h, z, y, stages, f1, { dense }) {
  const between = z.map((zi, i) => zi + x * x * (3 - 2 * x) * (y[i] - zi));
  const cubic = combine(between, h, [x * (1 - x) ** 2, -x * x * (1 - x)], [stages[0], f1]);
  return combine(cubic, h * (x * (1 - x)) ** 2, dense, stages);
}

const [WIDTH, TOP, GAP, BOTTOM] = [400, 190, 26, 110]; // of the picture and its two charts, in its own units

function show(root, data) {
  const options = Object.keys(EQUATIONS).map((name) => `<option>${name}</option>`).join("");
  root.insertAdjacentHTML("beforeend", `
    <div class="moving stepper">
      <svg viewBox="0 0 ${WIDTH} ${TOP + GAP + BOTTOM + 22}" role="img" aria-label="the solution with the steps of dopri5, and their sizes below">
        <rect class="beyond" y="0" height="${TOP + GAP + BOTTOM}"/><path class="grid"/>
        <path class="accurate"/><g class="accepted"></g><g class="rejected"></g><circle class="end" r="6"/>
        <text class="what" x="6" y="14">x(t)</text><text class="what" x="6" y="${TOP + GAP + 12}">step size, logarithmic</text>
        <g class="ticks"></g>
      </svg>
      <div class="controls">
        <label>equation <select name="equation">${options}</select></label>
        <p class="rule"></p>
        <label>tolerance <input name="tolerance" type="range" min="1" max="9" step="0.25" value="3"></label>
        <label>the last step <select name="last"><option value="">ends at the end</option>
          <option value="past">goes past the end</option></select></label>
        <p class="key"><i class="dot"></i> accepted, at its end <br><i class="cross">×</i> rejected, at its start <br><i class="ringed"></i> the result</p>
        <output aria-live="polite"></output>
      </div>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [choice, slider, last, said] = ["[name=equation]", "[name=tolerance]", "[name=last]", "output"].map(find);
  let equation, exact;

  function choose() {
    equation = EQUATIONS[choice.value];
    find(".rule").textContent = equation.rule;
    exact = solve(equation, 1e-11, data, false, 50000);
    draw();
  }

  function draw() {
    const tolerance = 10 ** -slider.value;
    const { steps, result, nfe, latest } = solve(equation, tolerance, data, last.value === "past");
    const accepted = steps.filter((step) => step.accepted), rejected = steps.filter((step) => !step.accepted);
    const until = Math.max(equation.end, ...accepted.map((step) => step.t + step.h));
    const x = (t) => ((WIDTH - 16) * t) / until + 8;
    const curve = [[0, equation.start[0]], ...exact.steps.filter((s) => s.accepted).map((s) => [s.t + s.h, s.next[0]])];
    const values = curve.map(([, value]) => value);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const top = (value) => Math.max(4, Math.min(TOP - 2, 24 + (TOP - 34) * (1 - (value - low) / (high - low))));
    const sizes = steps.map((step) => Math.log10(step.h));
    const [least, most] = [Math.floor(Math.min(...sizes)), Math.ceil(Math.max(...sizes))];
    const bottom = (size) => TOP + GAP + 18 + (BOTTOM - 22) * ((most - size) / Math.max(most - least, 1));
    const dot = (px, py) => `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3"/>`;
    const cross = (px, py) => `<path d="M${px - 4} ${py - 4}l8 8m0 -8l-8 8"/>`;
    find("path.accurate").setAttribute("d", `M${curve.map(([t, v]) => `${x(t).toFixed(1)} ${top(v).toFixed(1)}`).join("L")}`);
    find("g.accepted").innerHTML = accepted.map((s) => dot(x(s.t + s.h), top(s.next[0])) + dot(x(s.t + s.h), bottom(Math.log10(s.h)))).join("");
    find("g.rejected").innerHTML = rejected.map((s) => cross(x(s.t), top(s.z[0])) + cross(x(s.t), bottom(Math.log10(s.h)))).join("");
    const beyond = find("rect.beyond");
    beyond.setAttribute("x", x(equation.end));
    beyond.setAttribute("width", Math.max(0, WIDTH - x(equation.end)));
    const ring = find("circle.end");
    ring.setAttribute("cx", x(equation.end));
    ring.setAttribute("cy", result ? top(result[0]) : -99);
    const decades = Array.from({ length: most - least + 1 }, (_, i) => least + i);
    const lines = decades.map((d) => `M4 ${bottom(d)}H${WIDTH - 4}`).join("");
    find("path.grid").setAttribute("d", `${lines}M4 ${TOP + 8}H${WIDTH - 4}`);
    find("g.ticks").innerHTML = [most, least].map((d) => `<text x="${WIDTH - 6}" y="${bottom(d) - 3}" class="right">${10 ** d >= 0.01 ? 10 ** d : `1e${d}`}</text>`).join("")
      + `<text x="4" y="${TOP + GAP + BOTTOM + 16}">t = 0</text><text x="${x(equation.end)}" y="${TOP + GAP + BOTTOM + 16}" class="right">t = ${equation.end}</text>`;
    slider.setAttribute("aria-valuetext", tolerance.toExponential(1));
    const error = result ? Math.hypot(...result.map((v, i) => v - exact.result[i])).toExponential(1) : "none: too many steps";
    said.textContent = `tolerance ${tolerance.toExponential(1)}\n${accepted.length} accepted, ${rejected.length} rejected\n`
      + `NFE = 2 + 6 · ${steps.length} = ${nfe}\nf asked up to t = ${latest.toFixed(2)}\nerror at the end: ${error}`;
  }

  choice.addEventListener("change", choose);
  slider.addEventListener("input", draw);
  last.addEventListener("change", draw);
  choose();
}
