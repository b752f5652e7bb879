// Digits on their way through a trained block. `data` holds, for n digits at T equally spaced times from 0 to 1:
// labels (n), points (T lists of x, y, x, y, ...), readings (T strings: the classifier's answer for every digit),
// follow (the digit to follow at first), and sprite, one picture of all digits with `columns` in a row.

const TAIL = 0.12; // how much of its way a digit trails behind it, in units of t
const SECONDS = 5; // how long the way takes from t = 0 to t = 1
const EDGE = 14; // pixels between the outermost digits and the edge
const THUMBNAIL = 84;

function show(root, data) {
  const [n, last] = [data.labels.length, data.points.length - 1];
  const labels = [...data.labels];
  const classes = [...new Set(labels)].sort();
  root.insertAdjacentHTML("beforeend", `
    <div class="moving flow">
      <svg aria-hidden="true"><path class="way"/>
        ${classes.map((c) => `<g data-class="${c}"><path class="tail"/></g>`).join("")}
        <circle class="ring" r="10"/></svg>
      <div class="controls">
        <button name="play" type="button">Play</button>
        <label class="wide">t
          <input name="time" type="range" min="0" max="${last}" value="${Math.round(0.25 * last)}"></label>
        <div class="classes" role="group" aria-label="show one class">${classes.map((c) =>
          `<button type="button" data-class="${c}" aria-pressed="false">${c}</button>`).join("")}</div>
      </div>
      <div class="followed">
        <span class="thumbnail" role="img"></span>
        <div>
          <label class="wide">digit
            <input name="digit" type="range" min="0" max="${n - 1}" value="${data.follow}"></label>
          <output aria-live="polite"></output>
        </div>
      </div>
    </div>`);
  const find = (selector) => root.querySelector(selector);
  const [svg, play, slider, digit, said, thumbnail] =
    ["svg", "[name=play]", "[name=time]", "[name=digit]", "output", ".thumbnail"].map(find);
  const glyphs = labels.map((label) => {
    const glyph = document.createElementNS("http://www.w3.org/2000/svg", "text");
    glyph.textContent = label;
    find(`g[data-class="${label}"]`).append(glyph);
    return glyph;
  });
  thumbnail.style.backgroundImage = `url(${data.sprite})`;
  thumbnail.style.backgroundSize = `${data.columns * THUMBNAIL}px auto`;

  const bounds = [0, 1].map((axis) => {
    const values = data.points.flatMap((row) => row.filter((_, k) => k % 2 === axis));
    return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  });
  let t = slider.value / last, frame = null, width, height;

  /** Where digit i is at time t, in pixels: on the straight line between two stored times. */
  function at(i, t) {
    const k = Math.min(Math.floor(t * last), last - 1);
    const part = t * last - k;
    const [x, y] = [0, 1].map((axis) => {
      const [z0, z1] = [data.points[k][2 * i + axis], data.points[k + 1][2 * i + axis]];
      return (z0 + part * (z1 - z0) - bounds[axis][0]) / (bounds[axis][1] - bounds[axis][0]);
    });
    return [EDGE + x * (width - 2 * EDGE), EDGE + (1 - y) * (height - 2 * EDGE)].map((pixel) => pixel.toFixed(1));
  }

  /** The way of digit i from one time to another, through the stored times between. */
  function way(i, from, to) {
    const stored = data.points.map((_, k) => k / last).filter((s) => from < s && s < to);
    return `M${[from, ...stored, to].map((s) => at(i, s).join(" ")).join("L")}`;
  }

  function draw() {
    const followed = Number(digit.value);
    const readings = data.readings[Math.round(t * last)];
    glyphs.forEach((glyph, i) => {
      glyph.setAttribute("transform", `translate(${at(i, t)})`);
      glyph.classList.toggle("misread", readings[i] !== labels[i]);
    });
    for (const c of classes) {
      const tails = labels.map((label, i) => (label === c ? way(i, Math.max(0, t - TAIL), t) : ""));
      find(`g[data-class="${c}"] .tail`).setAttribute("d", tails.join(""));
    }
    find(".way").setAttribute("d", way(followed, 0, 1));
    find(".ring").setAttribute("transform", `translate(${at(followed, t)})`);
    slider.setAttribute("aria-valuetext", `t = ${t.toFixed(2)}`);
    digit.setAttribute("aria-valuetext", `number ${followed + 1}, a ${labels[followed]}`);
    thumbnail.setAttribute("aria-label", `picture of test digit ${followed + 1}, a ${labels[followed]}`);
    const [column, row] = [followed % data.columns, Math.floor(followed / data.columns)];
    thumbnail.style.backgroundPosition = `${-column * THUMBNAIL}px ${-row * THUMBNAIL}px`;
    const right = labels.filter((label, i) => readings[i] === label).length;
    said.textContent = `t = ${t.toFixed(2)}: the classifier reads ${right} of ${n} digits right. `
      + `Digit ${followed + 1} is a ${labels[followed]} and is read as ${readings[followed]}.`;
  }

  function stop() {
    cancelAnimationFrame(frame);
    frame = null;
    play.textContent = "Play";
    said.setAttribute("aria-live", "polite");
  }

  function run() {
    if (t === 1) t = 0;
    play.textContent = "Pause";
    said.setAttribute("aria-live", "off"); // a screen reader would read every frame
    let before = performance.now();
    const advance = (now) => {
      t = Math.min(1, t + Math.max(0, now - before) / 1000 / SECONDS);
      before = now;
      slider.value = Math.round(t * last);
      if (t === 1) stop();
      else frame = requestAnimationFrame(advance);
      draw();
    };
    frame = requestAnimationFrame(advance);
  }

  function followNearest(event) {
    const box = svg.getBoundingClientRect();
    const distance = glyphs.map((_, i) => {
      const [x, y] = at(i, t);
      return Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    });
    const nearest = distance.indexOf(Math.min(...distance));
    if (distance[nearest] > 20) return;
    digit.value = nearest;
    draw();
  }

  play.addEventListener("click", () => (frame === null ? run() : stop()));
  slider.addEventListener("input", () => {
    stop();
    t = slider.value / last;
    draw();
  });
  digit.addEventListener("input", draw);
  svg.addEventListener("pointermove", followNearest);
  svg.addEventListener("click", followNearest);
  find(".classes").addEventListener("click", ({ target }) => {
    if (!target.dataset.class) return;
    const chosen = target.getAttribute("aria-pressed") === "true" ? null : target.dataset.class;
    for (const e of root.querySelectorAll(".classes button")) e.setAttribute("aria-pressed", e.dataset.class === chosen);
    for (const g of svg.querySelectorAll("g")) g.classList.toggle("dimmed", chosen !== null && g.dataset.class !== chosen);
  });
  new ResizeObserver(([{ contentRect }]) => {
    ({ width, height } = contentRect);
    if (width) draw();
  }).observe(svg);
}
