// What answers mean: uncertainties, their place among those of validation inputs, the decision; and how it is said.

export const MEASURES = {
  total: { title: "Total", meaning: "how unsure of the class, for both reasons", limit: "uncertain" },
  data: { title: "Data", meaning: "how much the classes overlap here" },
  knowledge: { title: "Knowledge", meaning: "how unlike this is to what it has learnt", limit: "unfamiliar" },
};

/** Returns what is said of input i of a batch; null if the model gives no probabilities. */
export function read(outputs, i = 0) {
  const probs = outputs.probs?.[i];
  if (!Array.isArray(probs)) return null;
  const measure = (name) => outputs[`${name}_uncertainty`] && Math.fround(outputs[`${name}_uncertainty`][i]);
  return {
    probs: probs.map(Number),
    alphas: outputs.alphas?.[i].map(Number),
    total: measure("total") ?? -probs.reduce((sum, p) => sum + (p === 0 ? 0 : p * Math.log(p)), 0),
    data: measure("data"),
    knowledge: measure("knowledge"),
  };
}

/** Returns a model's own limits, Infinity where there is none. */
export function calibrated({ metadata: { thresholds } }) {
  return { uncertain: thresholds?.uncertain ?? Infinity, unfamiliar: thresholds?.unfamiliar ?? Infinity };
}

/** Whether a value is above its limit; NaN is, so that it's never answered. */
export const exceeds = (value, limit) => !(value <= limit);

/** Returns why there is no answer, nothing if there is one. */
export function doubts({ total, knowledge }, limits) {
  const found = [];
  if (exceeds(total, limits.uncertain)) found.push("uncertain");
  if (knowledge !== undefined && exceeds(knowledge, limits.unfamiliar)) found.push("unfamiliar");
  return found;
}

/** Returns the share of validation inputs whose value is at most this, interpolated between percentiles 0 to 100. */
export function shareBelow(percentiles, value) {
  const above = percentiles.findIndex((p) => p > value);
  if (above <= 0) return above ? 1 : 0;
  const [low, high] = [percentiles[above - 1], percentiles[above]];
  return (above - 1 + (value - low) / (high - low)) / 100;
}

/** Says where a value stands among those of n validation inputs. */
export function place(percentiles, n, value) {
  if (value > percentiles.at(-1)) return `higher than all of the ${count(n)} validation inputs`;
  if (value < percentiles[0]) return `lower than all of the ${count(n)} validation inputs`;
  return `higher than ${percent(Math.min(shareBelow(percentiles, value), 0.999))} of what it was trained for`;
}

/** Says a number of nats with three significant digits; what is below 0 is rounding. */
export function nats(value) {
  if (Number.isNaN(value)) return "not a number";
  if (value <= 0) return "0";
  return value < 1e-4 ? value.toExponential(2) : value.toPrecision(3);
}

/** Says a share, with one decimal near 0 and 1, where it matters. */
export function percent(share, decimals = share > 0.1 && share < 0.9 ? 0 : 1) {
  return `${(100 * share).toFixed(decimals)}\u00a0%`;
}

export const count = (n) => n.toLocaleString("en");
