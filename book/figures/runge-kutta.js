// dz/dt = f(t, z) from t = 0 by explicit Runge-Kutta methods, as in odelib/solvers.py.
// A method is one of odelib's tableaus: c, a, b, and for the adaptive ones order, error and, maybe, dense.

const RK4 = { c: [0, 1 / 2, 1 / 2, 1], a: [[], [1 / 2], [0, 1 / 2], [0, 0, 1]], b: [1 / 6, 1 / 3, 1 / 3, 1 / 6] };
const CONTROLLER = { safety: 0.9, smallest: 0.2, largest: 10, beta: 0.04 };

/** z + h Σ weights_i stages_i */
function combine(z, h, weights, stages) {
  const sum = z.slice();
  weights.forEach((weight, i) => {
    if (weight === 0) return;
    for (let k = 0; k < sum.length; k++) sum[k] += h * weight * stages[i][k];
  });
  return sum;
}

/** One step from t to `next`. `first` is f(t, z), if it is known. */
function rungeKuttaStep(f, t, next, z, { a, b, c }, first) {
  const h = next - t;
  const stages = [first ?? f(t, z)];
  for (let i = 1; i < a.length; i++)
    stages.push(f(c[i] === 1 ? next : t + c[i] * h, combine(z, h, a[i], stages)));
  return { t, h, z, end: combine(z, h, b, stages), stages };
}

/** A solve from z at t = 0: `nfe`, and `steps`, each with t, h, z, end, stages, accepted and, if adaptive, the ratio. */
function solve(f, z, { method, ...how }) {
  const solution = { nfe: 0, method, start: z };
  const counted = (t, state) => {
    solution.nfe++;
    return f(t, state);
  };
  solution.steps = (method.error ? adaptiveSteps : fixedSteps)(counted, z, method, how);
  return solution;
}

/** Equal steps to `end`, which may be negative, as far as states are finite. */
function fixedSteps(f, z, method, { steps: n, end = 1 }) {
  const steps = [];
  for (let i = 0; i < n; i++) {
    const step = rungeKuttaStep(f, end * (i / n), end * ((i + 1) / n), z, method);
    if (!step.end.every(Number.isFinite)) break;
    steps.push(Object.assign(step, { accepted: true }));
    z = step.end;
  }
  return steps;
}

/** With `past` the last step goes beyond `end`. `tolerance` is both rtol and atol. */
function adaptiveSteps(f, z, method, { tolerance, end = 1, past = false, most = 500 }) {
  const steps = [];
  let [t, first] = [0, f(0, z)];
  let h = initialStep(f, past ? Infinity : end, z, first, method.order, tolerance);
  let previous = 1; // the ratio of the last accepted step
  while (t < end) {
    if (steps.length === most) throw new Error("too many steps");
    const next = !past && end - t <= 1.01 * h ? end : t + h; // reach the end, and leave no crumb before it
    const step = rungeKuttaStep(f, t, next, z, method, first);
    const estimate = combine(z.map(() => 0), step.h, method.error, step.stages);
    const ratio = errorRatio(estimate, z, step.end, tolerance);
    const accepted = ratio <= 1;
    steps.push(Object.assign(step, { accepted, ratio }));
    h = step.h * factor(ratio, previous, method.order);
    if (accepted) {
      [t, z, previous] = [next, step.end, ratio];
      first = step.stages.at(-1); // first same as last
    }
  }
  return steps;
}

/** The next step over this one. */
function factor(ratio, previous, order) {
  const { safety, smallest, largest, beta } = CONTROLLER;
  if (!Number.isFinite(ratio)) return smallest;
  const wanted = safety * Math.max(ratio, 1e-10) ** -(1 / order - 0.75 * beta) * Math.max(previous, 1e-4) ** beta;
  return Math.min(Math.max(wanted, smallest), largest);
}

/** The root mean square of error over tolerance. */
function errorRatio(error, z, end, tolerance) {
  let sum = 0;
  for (let k = 0; k < z.length; k++)
    sum += (error[k] / (tolerance * (1 + Math.max(Math.abs(z[k]), Math.abs(end[k]))))) ** 2;
  return Math.sqrt(sum / z.length);
}

/** Hairer's guess at a first step, no longer than `room`. */
function initialStep(f, room, z, f0, order, tolerance) {
  const measure = (v) => errorRatio(v, z, z, tolerance);
  const [size, speed] = [measure(z), measure(f0)];
  const trial = Math.min(size > 1e-5 && speed > 1e-5 ? (0.01 * size) / speed : 1e-6, room);
  const ahead = f(trial, combine(z, trial, [1], [f0]));
  const bend = measure(ahead.map((v, k) => v - f0[k])) / trial;
  const steepest = Math.max(speed, bend);
  const best = steepest > 1e-15 ? (0.01 / steepest) ** (1 / order) : Math.max(1e-6, trial * 1e-3);
  return Math.min(100 * trial, best, room);
}

/** The start of a solve, and the ends of its accepted steps. */
function stops({ start, steps }) {
  return [start, ...steps.filter((step) => step.accepted).map((step) => step.end)];
}

/** The states of n equal steps of z′ = f(z) over `time`. */
function march(f, z, time, n, method = RK4) {
  return stops(solve((t, state) => f(state), z, { method, steps: n, end: time }));
}

/** The states at rising `times`: interpolated by an adaptive method, on straight lines by others. */
function statesAt({ steps, start, method }, times) {
  const accepted = steps.filter((step) => step.accepted);
  if (!accepted.length) return times.map(() => start); // no block, no way
  return times.map((s) => {
    const step = accepted.findLast(({ t }) => t <= s);
    const x = (s - step.t) / step.h;
    const way = step.end.map((v, k) => v - step.z[k]);
    if (!method.error) return combine(step.z, x, [1], [way]);
    const bend = x * x * (3 - 2 * x); // Hermite's cubic through both ends and velocities
    const z = combine(combine(step.z, bend, [1], [way]), step.h,
      [x * (1 - x) ** 2, -x * x * (1 - x)], [step.stages[0], step.stages.at(-1)]);
    return method.dense ? combine(z, step.h * (x * (1 - x)) ** 2, method.dense, step.stages) : z;
  });
}
