// What the page asks the server: its models, and predictions by TensorFlow Serving's REST API.

/** Why there is no answer, in words for the user. */
export class Refusal extends Error {}

/** Returns the models' versions, with the form of their inputs; see `form`. */
export async function models() {
  const { models } = await request("/end2/models");
  return models.map((model) => ({ ...model, ...form(model) }));
}

/** Returns a model's outputs for a batch of inputs, by name. */
export async function predict(model, inputs, signal) {
  const { outputs } = await request(`/v1/models/${encodeURIComponent(model.name)}/versions/${model.version}:predict`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ inputs }),
    signal,
  });
  return Array.isArray(outputs) ? { [model.outputs[0]]: outputs } : outputs; // one output alone stands without its name
}

/** Returns a function that does a job once at a time; of the calls that come meanwhile, only the last counts. */
export function latestOnly(job) {
  let [isWanted, isBusy] = [false, false];
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    try {
      while (isWanted) {
        isWanted = false;
        await job();
      }
    } finally {
      isBusy = false;
    }
  };
}

/** Returns how inputs are given: kind "image", "plane" (two features), "numbers", or "none" and why. */
function form({ signatures: { serving_default: signature } }) {
  if (!signature) return { kind: "none", why: "it has no signature serving_default" };
  const specs = Object.values(signature.inputs);
  const [, dtype, dimensions] = /^(\w+) \((.*)\)$/.exec(specs[0]);
  const shape = dimensions.split(", ").slice(1).map(Number); // NaN where any size goes
  const known = { shape, dtype, outputs: Object.keys(signature.outputs) };
  const isNumeric = specs.length === 1 && /^(u?int|float)/.test(dtype) && !shape.some(Number.isNaN);
  if (isNumeric && shape.length === 3 && [1, 3].includes(shape[2])) return { ...known, kind: "image" };
  if (isNumeric && shape.length === 1) return { ...known, kind: shape[0] === 2 ? "plane" : "numbers" };
  return { ...known, kind: "none", why: `it takes ${specs.join(" and ")}` };
}

async function request(path, options) {
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server can’t be reached. Is it still running?");
  }
  const body = parse(text);
  if (response.ok && body) return body;
  const said = body?.error ?? `an answer of status ${response.status} that the page can’t read`;
  const advice = response.status === 404 ? " The server may have a newer version: reload the page." : "";
  throw new Refusal(`The server says: ${said}${advice}`);
}

/** Reads JSON with NaN, which becomes a string, and Infinity: the server writes them as TensorFlow Serving does. */
function parse(text) {
  for (const json of [text, text.replace(/\bNaN\b/g, '"NaN"').replace(/\bInfinity\b/g, "1e999")]) {
    try {
      return JSON.parse(json);
    } catch {} // the second is tried; null if that is no JSON either
  }
  return null;
}
