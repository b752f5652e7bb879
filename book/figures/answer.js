// What the network makes of a picture: the work of play's worker. Needs bytes.js, network.js and
// runge-kutta.js.

const TIMES = Array.from({ length: 101 }, (_, k) => k / 100); // at which the figure shows the state

/**
 * The answer to a request: 784 pixels from 0 to 255 (`picture`), the name of a method with its `steps` or `tolerance`,
 * and two questions: `clock`, at which f's clock stands (null: it runs), and `block`, whether there is one.
 */
function answer({ net, methods, plane }, { picture, method, steps, tolerance, clock, block }) {
  const begun = performance.now();
  const start = stem(net, Float64Array.from(picture, (v) => v / 255));
  const f = (t, z) => velocity(net, clock ?? t, z);
  const way = { method: methods[method], steps, tolerance };
  const solution = block ? solve(f, start, way) : { nfe: 0, steps: [], start, method: way.method };
  const end = solution.steps.at(-1)?.end ?? start; // the last step is always accepted
  const read = logits(net, end);
  const seconds = (performance.now() - begun) / 1000;
  const states = statesAt(solution, TIMES);
  const place = (z) => {
    const mean = pooled(z);
    return plane.axes.map((axis) => axis.reduce((sum, a, c) => sum + a * (mean[c] - plane.origin[c]), 0));
  };
  return {
    seconds, end, start, logits: read, nfe: solution.nfe,
    steps: solution.steps.map(({ t, h, accepted }) => ({ t, h, accepted })),
    stops: stops(solution).map(place),
    points: states.map(place),
    chances: states.map((z) => softmax(logits(net, z))),
  };
}

/** Be a worker: the first message brings the network, every other one is a request. */
function serve(worker) {
  let tools;
  worker.onmessage = async ({ data }) => {
    if (data.weights) tools = unpack(data.weights).then((bytes) => ({ ...data, net: network(bytes, data.shapes) }));
    else worker.postMessage(answer(await tools, data));
  };
}
