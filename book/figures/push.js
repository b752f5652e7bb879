// A push s travels with the state to t1, the price a of a push travels back, and a · s stays put. The loss is the height
// of the end, L = y(t1), so that a(t1) = w = (0, 1). Needs runge-kutta.js and plane.js.

const FIELDS = {
  pendulum: {
    rule: "x′ = y, y′ = −sin x − 0.2 y", f: ([x, y]) => [y, -Math.sin(x) - 0.2 * y],
    jacobian: ([x]) => [[0, 1], [-Math.cos(x), -0.2]], start: [-1.7, 0.9], time: 5, reach: 3.2, pushed: [0.5, 0.5],
  },
  contract: {
    rule: "x′ = −x − 2 y, y′ = 2 x − y + sin x / 2", f: ([x, y]) => [-x - 2 * y, 2 * x - y + Math.sin(x) / 2],
    jacobian: ([x]) => [[-1, -2], [2 + Math.cos(x) / 2, -1]], start: [2, 1], time: 1.5, reach: 3.2, pushed: [-0.6, 0.6],
  },
};
const W = [0, 1];
const GRID = 400; // steps of rk4 from t0 to t1
const MARKS = 10; // as many arrows along the path

const dot = (u, v) => u[0] * v[0] + u[1] * v[1];
const length = (v) => Math.hypot(...v);
const add = (u, v, factor = 1) => u.map((ui, i) => ui + factor * v[i]);
const times = (m, v) => m.map((row) => dot(row, v));
const transposed = ([[a, b], [c, d]]) => [[a, c], [b, d]];

/** The path, with the price at each of its points: lists of GRID + 1 points, forwards in time. */
function prices({ f, jacobian, start, time }) {
  const path = march(f, start, time, GRID);
  const back = ([x, y, ...a]) => [...f([x, y]), ...times(transposed(jacobian([x, y])), a).map((v) => -v)];
  const returned = march(back, [...path[GRID], ...W], -time, GRID).reverse();
  return { path, price: returned.map((y) => y.slice(2)) };
}

/** A push s at point m of the path: the path of the pushed state, and s as the linearised equation carries it. */
function pushes({ f, jacobian, time }, path, m, s) {
  const [rest, n] = [(time * (GRID - m)) / GRID, GRID - m];
  const ahead = ([x, y, ...s]) => [...f([x, y]), ...times(jacobian([x, y]), s)];
  return {
    neighbour: march(f, add(path[m], s), rest, n),
    push: march(ahead, [...path[m], ...s], rest, n).map((y) => y.slice(2)),
  };
}

/** Two gradients of L by n steps of Euler: that of the steps, and the adjoint equation's, on a path rebuilt backwards. */
function euler({ f, jacobian, start, time }, n) {
  const h = time / n;
  const states = [start];
  for (let k = 0; k < n; k++) states.push(add(states[k], f(states[k]), h));
  let [direct, adjoint] = [W, W];
  const rebuilt = [states[n]];
  for (let k = n - 1; k >= 0; k--) {
    const z = rebuilt.at(-1);
    direct = add(direct, times(transposed(jacobian(states[k])), direct), h);
    adjoint = add(adjoint, times(transposed(jacobian(z)), adjoint), h);
    rebuilt.push(add(z, f(z), -h));
  }
  return { states, rebuilt, direct, adjoint };
}

const [STRIP, TALL] = [400, 90]; // the chart below the plane, in its own units

function show(root) {
  const arrow = (name) => `<marker id="push-${name}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="11" markerHeight="11"
    markerUnits="userSpaceOnUse" orient="auto"><path class="${name}" d="M0 0L8 4L0 8z"/></marker>`;
  const key = (names) =>
    Object.entries(names).map(([part, name]) => `<span><i class="${part}"></i>${name}</span>`).join("");
  const options = Object.keys(FIELDS).map((name) => `<option>${name}</option>`).join("");
  root.insertAdjacentHTML("beforeend", `
    <div class="moving push">
      <svg class="space">
        <defs>${["s", "a", "direct", "adjoint"].map(arrow).join("")}</defs>
        <path class="field"/><path class="path"/><path class="neighbour"/><path class="steps"/><path class="rebuilt"/>
        <g class="prices"></g><g class="pushes"></g><g class="gradients"></g>
        <g class="tip" tabindex="0" role="slider" aria-roledescription="push"
          aria-label="push: arrow keys change it"><circle class="grip" r="24"/><circle r="7"/></g>
      </svg>
      <div class="controls">
        <label>field <select name="field">${options}</select></label>
        <p class="rule"></p>
        <label>time of the push <input name="time" type="range" min="0" max="${GRID - 20}" step="10" value="0"></label>
        <label>Euler steps <input name="steps" type="range" min="0" max="40" value="0"></label>
        <p class="key">${key({ path: "path", neighbour: "pushed path", s: "push s", a: "price a" })}</p>
        <p class="key with-euler">${key({
          direct: "dL/dz(0) of Euler's steps", adjoint: "by the adjoint",
          steps: "Euler's steps", rebuilt: "rebuilt backwards",
        })}</p>
      </div>
      <svg class="strip" viewBox="0 -8 ${STRIP} ${TALL + 16}" role="img"
        aria-label="the lengths of s and a, and a · s, over time">
        <path class="zero"/><path class="s"/><path class="a"/><path class="product"/></svg>
      <p class="key">${key({ s: "length of s", a: "length of a", product: "a · s" })}<span>from t0 to t1</span></p>
      <output aria-live="polite"></output>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [space, tip, moment, steps, said] = [".space", ".tip", "[name=time]", "[name=steps]", "output"].map(find);
  let field, s, path, price;

  const { at, line, fieldOf, movable } = plane(space, () => field.reach);
  const arrows = (list, name) => list.filter(([, v]) => length(v) > 0.02 * field.reach).map(([z, v]) =>
    `<path class="${name}" d="${line([z, add(z, v)])}" marker-end="url(#push-${name})"/>`).join("");
  const words = (v) => `(${v.map((vi) => vi.toFixed(2).replace("-", "−")).join(", ")})`;

  function draw() {
    const m = Number(moment.value);
    const { neighbour, push } = pushes(field, path, m, s);
    const marks = Array.from({ length: MARKS + 1 }, (_, k) => Math.round((k * GRID) / MARKS));
    find("path.path").setAttribute("d", line(path));
    find("path.neighbour").setAttribute("d", line(neighbour));
    find(".prices").innerHTML = arrows(marks.map((k) => [path[k], price[k]]), "a");
    find(".pushes").innerHTML = arrows([m, ...marks.filter((k) => k > m)].map((k) => [path[k], push[k - m]]), "s");
    tip.setAttribute("transform", `translate(${at(add(path[m], s))})`);
    tip.setAttribute("aria-valuenow", length(s).toFixed(2));
    tip.setAttribute("aria-valuetext", `s = ${words(s)}`);
    moment.setAttribute("aria-valuetext", `t = ${((field.time * m) / GRID).toFixed(2)}`);
    drawStrip(m, push);
    const moved = add(neighbour.at(-1), path[GRID], -1);
    const number = (v) => v.toFixed(3).replace("-", "−");
    said.textContent = `Pushed at t = ${((field.time * m) / GRID).toFixed(2)} by s = ${words(s)}, where `
      + `a = ${words(price[m])}: a · s = ${number(dot(price[m], s))}. At t1, s = ${words(push.at(-1))} and a = ${words(W)}: `
      + `a · s = ${number(dot(W, push.at(-1)))}. L really changes by ${number(dot(W, moved))}.\n${drawEuler()}`;
  }

  function drawStrip(m, push) {
    const curves = {
      s: push.map(length), a: price.map(length), product: push.map((v, k) => dot(v, price[m + k])),
    };
    const values = Object.values(curves).flat();
    const [least, most] = [Math.min(0, ...values), Math.max(...values)];
    const curve = (list) => `M${list.map((v, k) => [
      ((STRIP * (GRID - list.length + 1 + k)) / GRID).toFixed(1), ((TALL * (most - v)) / (most - least)).toFixed(1),
    ].join(" ")).join("L")}`;
    for (const [name, list] of Object.entries(curves)) find(`.strip .${name}`).setAttribute("d", curve(list));
    find(".zero").setAttribute("d", curve(new Array(GRID + 1).fill(0)));
  }

  /** Euler's steps, the path rebuilt by them and both gradients; in words, how far they are off. */
  function drawEuler() {
    const n = Number(steps.value);
    const { states, rebuilt, direct, adjoint } = n ? euler(field, n) : { states: [], rebuilt: [] };
    find("path.steps").setAttribute("d", n ? line(states) : "");
    find("path.rebuilt").setAttribute("d", n ? line(rebuilt) : "");
    find(".gradients").innerHTML = n
      ? arrows([[field.start, direct]], "direct") + arrows([[field.start, adjoint]], "adjoint") : "";
    find(".with-euler").hidden = !n;
    steps.setAttribute("aria-valuetext", n ? `${n}` : "none");
    if (!n) return "";
    const astray = length(add(rebuilt.at(-1), field.start, -1)).toFixed(2);
    return `dL/dz(0) is a(0) = ${words(price[0])}. ${n} steps of Euler give ${words(direct)} when they are `
      + `differentiated, and ${words(adjoint)} by the adjoint, whose path comes back ${astray} from z(0).`;
  }

  function choose() {
    field = FIELDS[find("[name=field]").value];
    s = field.pushed;
    ({ path, price } = prices(field));
    find(".rule").textContent = field.rule;
    const dash = (z, direction) => line([add(z, direction, -0.03), add(z, direction, 0.03)]);
    find("path.field").setAttribute("d", fieldOf(field.f, dash));
    draw();
  }

  function pushBy(v) {
    s = v.map((vi) => Math.max(-field.reach / 2, Math.min(field.reach / 2, vi)));
    draw();
  }

  find("[name=field]").addEventListener("change", choose);
  moment.addEventListener("input", draw);
  steps.addEventListener("input", draw);
  movable(tip, (z) => pushBy(add(z, path[Number(moment.value)], -1)), (way) => pushBy(add(s, way)));
  choose();
}
