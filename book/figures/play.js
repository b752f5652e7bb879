// Draw a digit and watch the trained network solve its ODE. `data` is that of odelib.book.play.play_data. pad.js gathers
// the strokes, drawing.js makes a picture of them, and answer.js, in a worker, finds what the network makes of it.

const LAST = 100; // the figure shows t = 0, 0.01 ... 1
const SECONDS = 2.5; // of playing from t = 0 to t = 1
const EXACT = { method: "dopri5", tolerance: 1e-6, clock: null, block: true };
const SOLVERS = { euler: "Euler", midpoint: "midpoint", rk4: "RK4", bosh3: "bosh3", dopri5: "dopri5" };
const QUESTIONS = {
  clock: { name: "Stop the clock", change: { clock: 0.5 }, text: "f is told t = ½ at every evaluation." },
  euler: {
    name: "One Euler step", change: { method: "euler", steps: 1 },
    text: "A single evaluation of f, from t = 0 to t = 1 in a straight line.",
  },
  block: { name: "Forget the block", change: { block: false }, text: "The head reads z(0): no ODE is solved." },
};
const PAD = "Pad: draw a digit. Arrow keys move the pen, space sets it down and lifts it, Delete clears the pad, "
  + "0 to 9 fetch a digit of the test set.";
const [WIDTH, HEIGHT] = [100, 80]; // of the plane, in its own units
const AXIS = 300; // length of the time axis, in its own units

function show(root, data) {
  const classes = [..."0123456789"];
  root.insertAdjacentHTML("beforeend", `
    <div class="moving play">
      <div class="pad">
        <svg class="paper" viewBox="0 0 28 28" tabindex="0" role="application"
          aria-label="${PAD}"><image width="28" height="28"/><path class="ink"/><circle class="pen" r="0.9"/></svg>
        <div class="prepared">
          <canvas class="seen" width="28" height="28" role="img"></canvas>
          <p>what the network gets</p>
          <button name="clear" type="button">Clear</button>
        </div>
        <p class="or">or fetch a digit of the test set:</p>
        <div class="digits" role="group" aria-label="fetch a digit of the test set">${classes.map((c) =>
          `<button type="button" data-class="${c}">${c}</button>`).join("")}</div>
      </div>
      <svg class="plane" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">
        ${[...data.crowd.labels].map((c) => `<text data-class="${c}">${c}</text>`).join("")}
        <path class="exact"/><path class="taken"/><g class="stops"></g><circle class="state" r="2.2"/></svg>
      <div class="beside">
        <ol class="bars" aria-hidden="true">${classes.map((c) =>
          `<li data-class="${c}"><b>${c}</b><span><i></i></span><em></em></li>`).join("")}</ol>
        <p class="key"><i class="taken"></i>this solve<br><i class="exact"></i>exact flow</p>
      </div>
      <div class="time">
        <svg class="axis" viewBox="-5 -20 ${AXIS + 10} 36" aria-hidden="true">
          <path class="line" d="M0 0H${AXIS}"/><path class="taken"/><path class="rejected"/><g class="stops"></g>
          <path class="now" d="M0 -20V14"/></svg>
        <input name="time" type="range" aria-label="t" min="0" max="${LAST}" value="${LAST}">
        <button name="play" type="button">Play</button>
        <p class="opinion"></p>
      </div>
      <output class="answer" aria-live="polite"></output>
      <output class="compared" aria-live="polite"></output>
      <div class="controls">
        <label>solver <select name="method">${Object.entries(SOLVERS).map(([key, name]) =>
          `<option value="${key}"${key === "dopri5" ? " selected" : ""}>${name}</option>`).join("")}</select></label>
        <label class="tolerance">tolerance <input name="tolerance" type="range" min="0" max="10" value="4"></label>
        <label class="steps">steps <input name="steps" type="range" min="1" max="16" value="1"></label>
        <p class="setting"></p>
      </div>
      <ul class="questions">${Object.entries(QUESTIONS).map(([key, { name, text }]) =>
        `<li><button type="button" name="${key}" aria-pressed="false">${name}</button>
          <span>${text} <a href="${data.links[key].href}">${data.links[key].title}</a></span></li>`).join("")}</ul>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [paper, seen, slider, play, method, tolerance, steps, said, compared] = [".paper", ".seen", "[name=time]",
    "[name=play]", "[name=method]", "[name=tolerance]", "[name=steps]", ".answer", ".compared"].map(find);
  const crowd = [...root.querySelectorAll(".plane text")];
  const bars = [...root.querySelectorAll(".bars li")];
  let picture = null; // the 784 grey levels that the network gets
  let question = null, frame = null, result = null, exact = null;
  const fetched = {}; // which digit of each class was fetched last
  let era = 0; // begins with an empty pad, or with a digit of the test set

  // The plane: pixels from the two numbers that the worker makes of a state, and that the crowd has at some times.
  const bounds = [0, 1].map((axis) => {
    const values = data.crowd.points.flatMap((row) => row.filter((_, k) => k % 2 === axis));
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return [least - 0.08 * (most - least), most + 0.08 * (most - least)];
  });
  const at = (point) => point.map((v, axis) => {
    const share = (v - bounds[axis][0]) / (bounds[axis][1] - bounds[axis][0]);
    return (axis ? HEIGHT * (1 - share) : WIDTH * share).toFixed(2);
  });
  const line = (points) => (points ? `M${points.map((point) => at(point).join(" ")).join("L")}` : "");
  const dots = (places, r) => places.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="${r}"/>`).join("");

  const percent = (chance) => `${chance > 0.9995 ? "over 99.9" : (100 * chance).toFixed(1)}\u00a0%`;
  const best = (chances) => chances.indexOf(Math.max(...chances));
  const reading = (chances) => `${best(chances)}, with ${percent(Math.max(...chances))}`;

  /** A function that asks a worker of its own; of requests that come while it works only the newest is kept. */
  function worker(tell) {
    const solver = new Worker(URL.createObjectURL(new Blob([data.worker])));
    const { weights, shapes, methods, plane } = data;
    solver.postMessage({ weights, shapes, methods, plane });
    let asked = null, waiting = null;
    const ask = (request) => {
      if (asked) waiting = request;
      else solver.postMessage((asked = request));
    };
    solver.onmessage = ({ data: answer }) => {
      const request = asked;
      asked = null;
      if (waiting) ask(waiting);
      waiting = null;
      if (request.era === era) tell(answer, request);
    };
    return ask;
  }

  const ask = worker((answer, request) => {
    result = { ...answer, request };
    drawSolve();
    if (request.watch) slider.value = LAST; // from where playing begins anew
    if (request.watch && !matchMedia("(prefers-reduced-motion: reduce)").matches) run();
    else draw();
    if (!request.drawing) tell();
  });
  const askExactly = worker((answer, request) => {
    if (request.picture !== picture) return;
    exact = answer;
    drawSolve();
    tell();
  });

  /** Ask the network; `watch` plays the flow once, `drawing` says that the stroke goes on. */
  function solve({ watch = false, drawing = false } = {}) {
    const change = QUESTIONS[question]?.change;
    const chosen = { method: method.value, steps: Number(steps.value), tolerance: 10 ** (tolerance.value / 2 - 5) };
    if (picture) ask({ picture, era, clock: null, block: true, ...chosen, ...change, watch, drawing });
  }

  /** Give the network another picture, or none. */
  function change(next, how) {
    picture = next;
    exact = null;
    if (how.name || !picture) [result, era] = [null, era + 1];
    const pixels = new ImageData(28, 28);
    for (let k = 0; k < 784; k++) pixels.data.set([0, 0, 0, 255].fill(255 - (picture?.[k] ?? 0), 0, 3), 4 * k);
    seen.getContext("2d").putImageData(pixels, 0, 0);
    seen.setAttribute("aria-label", how.name ?? (picture ? "your drawing, prepared" : "an empty picture"));
    if (how.name) find("image").setAttribute("href", seen.toDataURL());
    else find("image").removeAttribute("href");
    stop();
    drawSolve();
    draw();
    solve(how);
    if (how.drawing) return;
    said.textContent = picture ? "The network is at work." : "Draw a digit on the pad, or fetch one of the test set.";
    compared.textContent = "";
    if (picture) askExactly({ picture, era, ...EXACT });
  }

  /** What does not depend on t: the paths in the plane, the steps on the time axis. */
  function drawSolve() {
    find(".plane .taken").setAttribute("d", line(result?.points));
    find(".plane .exact").setAttribute("d", line(exact?.points));
    find(".plane .stops").innerHTML = dots((result?.stops ?? []).map(at), 1.1);
    const all = result?.steps ?? [];
    const [taken, rejected] = [true, false].map((accepted) => all.filter((step) => step.accepted === accepted));
    const arches = (steps, most, side) => steps.map(({ t, h }) => { // above or below the axis
      const [width, height] = [AXIS * h, Math.min(most, (AXIS * h) / 2)];
      return `M${AXIS * t} 0a${width / 2} ${height} 0 0 ${side} ${width} 0`;
    }).join("");
    find(".axis .taken").setAttribute("d", arches(taken, 18, 1));
    find(".axis .rejected").setAttribute("d", arches(rejected, 12, 0));
    find(".axis .stops").innerHTML = dots([[0, 0], ...taken.map(({ t, h }) => [AXIS * (t + h), 0])], 2);
  }

  /** What depends on t: the dot, the bars, the crowd. */
  function draw() {
    const k = Number(slider.value);
    const chances = result?.chances[k];
    const row = (k / LAST) * (data.crowd.points.length - 1);
    const [before, after] = [Math.floor(row), Math.ceil(row)].map((stored) => data.crowd.points[stored]);
    crowd.forEach((glyph, i) => {
      const place = [2 * i, 2 * i + 1].map((j) => before[j] + (row % 1) * (after[j] - before[j]));
      glyph.setAttribute("transform", `translate(${at(place)})`);
    });
    find(".state").setAttribute("transform", result ? `translate(${at(result.points[k])})` : "translate(-9 -9)");
    find(".now").setAttribute("transform", `translate(${(AXIS * k) / LAST})`);
    bars.forEach((bar, c) => {
      bar.querySelector("i").style.width = `${100 * (chances?.[c] ?? 0)}%`;
      bar.querySelector("em").textContent = chances ? `${(100 * chances[c]).toFixed(0)}\u00a0%` : "";
      bar.classList.toggle("best", Boolean(chances) && c === best(chances));
    });
    const opinion = `t = ${(k / LAST).toFixed(2)}${chances ? `: the head reads ${reading(chances)}` : ""}`;
    find(".opinion").textContent = opinion;
    slider.setAttribute("aria-valuetext", opinion);
  }

  /** The answer in words, and how far it is from that of the exact flow. */
  function tell() {
    if (result?.request.picture !== picture) return; // the last stroke is still at work
    const { nfe, seconds, steps: all, chances, request } = result;
    const [rejected, last] = [all.filter((s) => !s.accepted).length, chances.at(-1)];
    const count = (n, name) => `${n} ${name}${n === 1 ? "" : "s"}`;
    const kept = data.methods[request.method].error
      ? `${all.length - rejected} accepted and ${count(rejected, "rejected step")}` : count(all.length, "step");
    const work = request.block ? `NFE ${nfe} in ${kept}` : "NFE 0";
    said.textContent = `It reads ${reading(last)}. ${work}, ${seconds.toFixed(2)} seconds.`;
    if (!exact) return;
    const distance = (a, b) => Math.hypot(...a.map((v, k) => v - b[k]));
    const share = (100 * distance(result.end, exact.end)) / distance(exact.start, exact.end);
    compared.textContent = `The exact flow (dopri5 at tolerance 10⁻⁶, NFE ${exact.nfe}) reads `
      + `${reading(exact.chances.at(-1))}. The two ends differ by ${Number(share.toPrecision(2))}\u00a0% of the way `
      + "from z(0) to z(1).";
  }

  /** What the controls have chosen, in words; shows those that the solver has. */
  function setting() {
    const adaptive = Boolean(data.methods[method.value].error);
    find(".tolerance").hidden = !adaptive;
    find(".steps").hidden = adaptive;
    const level = Number((10 ** (tolerance.value / 2 - 5)).toPrecision(2)).toString();
    tolerance.setAttribute("aria-valuetext", level);
    for (const control of [method, tolerance, steps])
      control.disabled = question === "block" || question === "euler";
    if (question === "block") return "No solver.";
    if (question === "euler") return "Euler, 1 step.";
    return adaptive ? `rtol = atol = ${level}` : `${steps.value} ${steps.value === "1" ? "step" : "steps"}`;
  }

  function stop() {
    cancelAnimationFrame(frame);
    frame = null;
    play.textContent = "Play";
  }

  function run() {
    stop();
    play.textContent = "Pause";
    const from = slider.value === String(LAST) ? 0 : slider.value / LAST;
    const begun = performance.now() - 1000 * SECONDS * from;
    const advance = (now) => {
      const t = Math.max(0, Math.min(1, (now - begun) / 1000 / SECONDS));
      slider.value = Math.round(LAST * t);
      if (t === 1) stop();
      else frame = requestAnimationFrame(advance);
      draw();
    };
    frame = requestAnimationFrame(advance);
  }

  async function fetchDigit(label, watch = true) {
    const bytes = await digits;
    const mine = [...data.digits.labels].flatMap((l, k) => (l === label ? [k] : []));
    const k = mine[(fetched[label] = ((fetched[label] ?? -1) + 1) % mine.length)];
    clear();
    change(bytes.subarray(784 * k, 784 * (k + 1)), { name: `a ${label} of the test set`, watch });
  }

  const digits = unpack(data.digits.pixels);
  const clear = pad(paper, (strokes, how) => change(prepare(strokes), how), fetchDigit);
  find("[name=clear]").addEventListener("click", clear);
  find(".digits").addEventListener("click", ({ target }) => target.dataset.class && fetchDigit(target.dataset.class));

  play.addEventListener("click", () => (frame === null ? run() : stop()));
  slider.addEventListener("input", () => {
    stop();
    draw();
  });
  for (const control of [method, tolerance, steps])
    control.addEventListener("input", () => {
      find(".setting").textContent = setting();
      solve();
    });
  find(".questions").addEventListener("click", ({ target }) => {
    if (!(target.name in QUESTIONS)) return;
    question = question === target.name ? null : target.name;
    for (const button of root.querySelectorAll(".questions button"))
      button.setAttribute("aria-pressed", button.name === question);
    find(".setting").textContent = setting();
    solve();
  });

  find(".setting").textContent = setting();
  fetchDigit("4", false); // nothing moves by itself
}
