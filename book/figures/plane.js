// A square of the plane around the origin, and a point of it that readers move.

const SIZE = 200; // half the side of the picture, in its own units
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** The plane as `svg` shows it. `reach()`, half the side of the square in the plane's units, may change. */
function plane(svg, reach) {
  svg.setAttribute("viewBox", `${-SIZE} ${-SIZE} ${2 * SIZE} ${2 * SIZE}`);

  const at = (z) => z.map((zi, i) => {
    const pixels = ((i ? -1 : 1) * zi * SIZE) / reach();
    return Math.max(-1e4, Math.min(1e4, pixels)).toFixed(1); // paths cannot be drawn to very distant points
  });
  const line = (states) => `M${states.map((z) => at(z).join(" ")).join("L")}`;

  /** A path all over the square: what `draw` makes of points and of f's direction there, which is `reach()` long. */
  function fieldOf(f, draw) {
    const cells = Array.from({ length: 17 }, (_, k) => ((k - 8) / 8.5) * reach());
    return cells.flatMap((x) => cells.map((y) => {
      const v = f([x, y]);
      const speed = Math.hypot(...v);
      return speed < 1e-9 ? "" : draw([x, y], v.map((vi) => (vi / speed) * reach()));
    })).join("");
  }

  function under(event) {
    const box = svg.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [(2 * share[0] - 1) * reach(), (1 - 2 * share[1]) * reach()];
  }

  /** Dragging the handle calls `moveTo` with a point, an arrow key `moveBy` with a way. */
  function movable(handle, moveTo, moveBy) {
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false }); // drag, do not scroll
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) moveTo(under(event));
    });
    handle.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      moveBy(KEYS[event.key].map((direction) => 0.02 * reach() * direction));
    });
  }

  return { at, line, fieldOf, under, movable };
}
