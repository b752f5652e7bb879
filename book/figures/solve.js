// dz/dt = f(t, z) from t = 0 to t = 1 by an explicit Runge-Kutta method: what odelib/solvers.py does, step by step.
// A method is one of odelib's tableaus: order, c, a, b, and for the adaptive ones error and, maybe, dense.

const CONTROLLER = { safety: 0.9, smallest: 0.2, largest: 10, beta: 0.04 };
const MOST_STEPS = 500;

/** z + h Σ weights_i stages_i */
function combine(z, h, weights, stages) {
  const sum = Float64Array.from(z);
  weights.forEach((weight, i) => {
    if (weight === 0) return;
    for (let k = 0; k < sum.length; k++) sum[k] += h * weight * stages[i][k];
  });
  return sum;
}

/** One step from t: where it ends, and the stages. `first` is f(t, z), if it is known. */
function rungeKuttaStep(f, t, h, z, { a, b, c }, first) {
  const stages = [first ?? f(t, z)];
  for (let i = 1; i < a.length; i++) stages.push(f(t + c[i] * h, combine(z, h, a[i], stages)));
  return { end: combine(z, h, b, stages), stages };
}

/**
 * A solve: `nfe`, and `steps` in order, each with t, h, accepted and, if adaptive, the ratio of its error to the
 * tolerance; accepted ones also with the states z and end, and with the stages.
 */
function solve(f, z, { method, steps, tolerance }) {
  const solution = { nfe: 0, steps: [], method, start: z };
  const counted = (t, state) => {
    solution.nfe++;
    return f(t, state);
  };
  if (method.error) adaptiveSteps(counted, z, method, tolerance, solution);
  else fixedSteps(counted, z, method, steps, solution);
  return solution;
}

function fixedSteps(f, z, method, n, solution) {
  for (let i = 0; i < n; i++) {
    const [t, h] = [i / n, (i + 1) / n - i / n];
    const step = rungeKuttaStep(f, t, h, z, method);
    solution.steps.push({ t, h, accepted: true, z, ...step });
    z = step.end;
  }
}

function adaptiveSteps(f, z, method, tolerance, solution) {
  let [t, first] = [0, f(0, z)];
  let h = initialStep(f, z, first, method.order, tolerance);
  let previous = 1; // the ratio of the last accepted step
  while (t < 1) {
    if (solution.steps.length === MOST_STEPS) throw new Error("too many steps");
    const next = 1 - t <= 1.01 * h ? 1 : t + h; // reach the end, and leave no crumb before it
    h = next - t;
    const step = rungeKuttaStep(f, t, h, z, method, first);
    const estimate = combine(new Float64Array(z.length), h, method.error, step.stages);
    const ratio = errorRatio(estimate, z, step.end, tolerance);
    const accepted = ratio <= 1;
    solution.steps.push({ t, h, accepted, ratio, ...(accepted && { z, ...step }) });
    if (accepted) {
      [t, z] = [next, step.end];
      first = step.stages.at(-1); // bosh3 and dopri5 are "first same as last"
    }
    h *= factor(ratio, previous, method.order);
    if (accepted) previous = ratio;
  }
}

/** The next step over this one. */
function factor(ratio, previous, order) {
  const { safety, smallest, largest, beta } = CONTROLLER;
  if (!Number.isFinite(ratio)) return smallest;
  const wanted = safety * Math.max(ratio, 1e-10) ** -(1 / order - 0.75 * beta) * Math.max(previous, 1e-4) ** beta;
  return Math.min(Math.max(wanted, smallest), largest);
}

/** The root mean square of error over tolerance; `tolerance` is both rtol and atol. */
function errorRatio(error, z, end, tolerance) {
  let sum = 0;
  for (let k = 0; k < z.length; k++)
    sum += (error[k] / (tolerance * (1 + Math.max(Math.abs(z[k]), Math.abs(end[k]))))) ** 2;
  return Math.sqrt(sum / z.length);
}

/** Hairer's guess at a first step, by one evaluation a short way ahead. */
function initialStep(f, z, f0, order, tolerance) {
  const measure = (v) => errorRatio(v, z, z, tolerance);
  const [size, speed] = [measure(z), measure(f0)];
  const trial = Math.min(size > 1e-5 && speed > 1e-5 ? (0.01 * size) / speed : 1e-6, 1);
  const ahead = f(trial, combine(z, trial, [1], [f0]));
  const bend = measure(ahead.map((v, k) => v - f0[k])) / trial;
  const steepest = Math.max(speed, bend);
  const best = steepest > 1e-15 ? (0.01 / steepest) ** (1 / order) : Math.max(1e-6, trial * 1e-3);
  return Math.min(100 * trial, best, 1);
}

/** The states at `times`, which run up. Between two steps an adaptive method interpolates; the others go straight. */
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
