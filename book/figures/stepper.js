// dopri5 with its step control on one equation. `data` is odelib's tableau. Needs runge-kutta.js.

const EQUATIONS = {
  "Van der Pol": { rule: "x′ = v, v′ = 6 (1 − x²) v − x", f: (t, [x, v]) => [v, 6 * (1 - x * x) * v - x], start: [2, 0], end: 16 },
  "a calm one": { rule: "x′ = cos(3t) exp(−x)", f: (t, [x]) => [Math.cos(3 * t) * Math.exp(-x)], start: [0.5], end: 1 },
  "a stiff one": { rule: "x′ = −50 (x − cos t)", f: (t, [x]) => [-50 * (x - Math.cos(t))], start: [0], end: 3 },
};

/** dopri5's solve of an equation, with the state at the end (`result`) and the latest time at which f was asked. */
function follow({ f, start, end }, tolerance, method, past) {
  let latest = 0;
  const watched = (t, z) => {
    latest = Math.max(latest, t);
    return f(t, z);
  };
  const solution = solve(watched, start, { method, tolerance, end, past, most: 5000 });
  return { ...solution, result: statesAt(solution, [end])[0], latest };
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
    exact = follow(equation, 1e-11, data, false);
    draw();
  }

  function draw() {
    const tolerance = 10 ** -slider.value;
    const { steps, result, nfe, latest } = follow(equation, tolerance, data, last.value === "past");
    const accepted = steps.filter((step) => step.accepted), rejected = steps.filter((step) => !step.accepted);
    const until = Math.max(equation.end, ...accepted.map((step) => step.t + step.h));
    const x = (t) => ((WIDTH - 16) * t) / until + 8;
    const curve = [[0, equation.start[0]], ...exact.steps.filter((s) => s.accepted).map((s) => [s.t + s.h, s.end[0]])];
    const values = curve.map(([, value]) => value);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const top = (value) => Math.max(4, Math.min(TOP - 2, 24 + (TOP - 34) * (1 - (value - low) / (high - low))));
    const sizes = steps.map((step) => Math.log10(step.h));
    const [least, most] = [Math.floor(Math.min(...sizes)), Math.ceil(Math.max(...sizes))];
    const bottom = (size) => TOP + GAP + 18 + (BOTTOM - 22) * ((most - size) / Math.max(most - least, 1));
    const dot = (px, py) => `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3"/>`;
    const cross = (px, py) => `<path d="M${px - 4} ${py - 4}l8 8m0 -8l-8 8"/>`;
    find("path.accurate").setAttribute("d", `M${curve.map(([t, v]) => `${x(t).toFixed(1)} ${top(v).toFixed(1)}`).join("L")}`);
    find("g.accepted").innerHTML = accepted.map((s) => dot(x(s.t + s.h), top(s.end[0])) + dot(x(s.t + s.h), bottom(Math.log10(s.h)))).join("");
    find("g.rejected").innerHTML = rejected.map((s) => cross(x(s.t), top(s.z[0])) + cross(x(s.t), bottom(Math.log10(s.h)))).join("");
    const beyond = find("rect.beyond");
    beyond.setAttribute("x", x(equation.end));
    beyond.setAttribute("width", Math.max(0, WIDTH - x(equation.end)));
    const ring = find("circle.end");
    ring.setAttribute("cx", x(equation.end));
    ring.setAttribute("cy", top(result[0]));
    const decades = Array.from({ length: most - least + 1 }, (_, i) => least + i);
    const lines = decades.map((d) => `M4 ${bottom(d)}H${WIDTH - 4}`).join("");
    find("path.grid").setAttribute("d", `${lines}M4 ${TOP + 8}H${WIDTH - 4}`);
    find("g.ticks").innerHTML = [most, least].map((d) => `<text x="${WIDTH - 6}" y="${bottom(d) - 3}" class="right">${10 ** d >= 0.01 ? 10 ** d : `1e${d}`}</text>`).join("")
      + `<text x="4" y="${TOP + GAP + BOTTOM + 16}">t = 0</text><text x="${x(equation.end)}" y="${TOP + GAP + BOTTOM + 16}" class="right">t = ${equation.end}</text>`;
    slider.setAttribute("aria-valuetext", tolerance.toExponential(1));
    const error = Math.hypot(...result.map((v, i) => v - exact.result[i])).toExponential(1);
    said.textContent = `tolerance ${tolerance.toExponential(1)}\n${accepted.length} accepted, ${rejected.length} rejected\n`
      + `NFE = 2 + 6 · ${steps.length} = ${nfe}\nf asked up to t = ${latest.toFixed(2)}\nerror at the end: ${error}`;
  }

  choice.addEventListener("change", choose);
  slider.addEventListener("input", draw);
  last.addEventListener("change", draw);
  choose();
}
