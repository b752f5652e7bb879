// A field of the plane, followed by a Runge-Kutta method step by step. `data.methods` holds odelib's tableaus by name.
// Needs runge-kutta.js and plane.js.

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

const ACCURATE_STEPS = 4000;
const [MOST_STEPS, FEWEST_STEPS] = [200, 4];

function show(root, data) {
  const options = (names) => Object.keys(names).map((name) => `<option>${name}</option>`).join("");
  root.insertAdjacentHTML("beforeend", `
    <div class="moving solver">
      <svg>
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

  const { at, line, fieldOf, under, movable } = plane(svg, () => field.reach);

  function arrow([x, y], direction) {
    const [dx, dy] = direction.map((d) => 0.035 * d);
    const barb = (side) => [x + 0.2 * dx - side * 0.5 * dy, y + 0.2 * dy + side * 0.5 * dx];
    const tip = [x + dx, y + dy];
    return line([[x - dx, y - dy], tip]) + line([barb(1), tip, barb(-1)]);
  }

  function draw() {
    const n = Math.round(MOST_STEPS * (FEWEST_STEPS / MOST_STEPS) ** (size.value / 100));
    const tableau = data.methods[find("[name=method]").value];
    const accurate = march(field.f, start, field.time, ACCURATE_STEPS);
    const states = march(field.f, start, field.time, n, tableau);
    find("path.accurate").setAttribute("d", line(accurate.filter((_, k) => k % 10 === 0)));
    find("path.taken").setAttribute("d", line(states));
    find("g.dots").innerHTML = states.slice(1).map((z) => {
      const [x, y] = at(z);
      return `<circle cx="${x}" cy="${y}" r="3"/>`;
    }).join("");
    const [end, goal] = [states.at(-1), accurate.at(-1)];
    const arrived = states.length > n && accurate.length > ACCURATE_STEPS;
    find("path.gap").setAttribute("d", arrived ? line([end, goal]) : "");
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
    find("path.field").setAttribute("d", fieldOf(field.f, arrow));
    draw();
  }

  function moveTo(z) {
    start = z.map((zi) => Math.max(-field.reach, Math.min(field.reach, zi)));
    draw();
  }

  find("[name=field]").addEventListener("change", choose);
  find("[name=method]").addEventListener("change", draw);
  size.addEventListener("input", draw);
  svg.addEventListener("click", (event) => moveTo(under(event)));
  movable(handle, moveTo, (way) => moveTo(start.map((zi, i) => zi + way[i])));
  choose();
}
