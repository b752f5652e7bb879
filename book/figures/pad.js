// The pad of play: strokes by mouse, finger or keys, on a field of 28 × 28.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Gather strokes on the SVG `paper`, and tell `changed` of them, with { drawing: true } while a stroke goes on and
 * { watch: true } at its end; call `fetchDigit` with the class whose key was pressed. Returns what clears the pad.
 */
function pad(paper, changed, fetchDigit) {
  const [ink, mark] = [".ink", ".pen"].map((part) => paper.querySelector(part));
  let strokes = [], pen = [14, 14], down = false; // the pen of the keyboard

  function tell(how) {
    ink.setAttribute("d", strokes.map((stroke) => `M${[...stroke, stroke.at(-1)].join("L")}`).join(""));
    mark.setAttribute("transform", `translate(${pen})`);
    mark.classList.toggle("down", down);
    changed(strokes, how);
  }

  function begin(point) {
    strokes.push([point]);
    tell({ drawing: true });
  }

  function extend(point) {
    strokes.at(-1).push(point);
    tell({ drawing: true });
  }

  const end = () => tell({ watch: true });

  function clear() {
    [strokes, down] = [[], false];
    tell({});
  }

  const clamp = (v) => Math.max(0.5, Math.min(27.5, v));
  const place = ({ clientX, clientY }) => {
    const box = paper.getBoundingClientRect();
    return [clamp((28 * (clientX - box.left)) / box.width), clamp((28 * (clientY - box.top)) / box.height)];
  };
  paper.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    paper.setPointerCapture(event.pointerId);
    begin(place(event));
  });
  paper.addEventListener("pointermove", (event) => {
    if (paper.hasPointerCapture(event.pointerId)) extend(place(event));
  });
  paper.addEventListener("pointerup", end);
  paper.addEventListener("pointercancel", end);
  paper.addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key in ARROWS) {
      pen = pen.map((v, axis) => clamp(v + ARROWS[key][axis]));
      if (down) extend(pen);
      else mark.setAttribute("transform", `translate(${pen})`);
    } else if (key === " ") {
      down = !down;
      if (down) begin(pen);
      else end();
    } else if (key === "Delete" || key === "Backspace") clear();
    else if (/^[0-9]$/.test(key)) fetchDigit(key);
    else return;
    event.preventDefault();
  });
  mark.setAttribute("transform", `translate(${pen})`);
  return clear;
}
