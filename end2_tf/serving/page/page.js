// The page: a model, an input, and what the model says of it.

import { Answer } from "./answer.js";
import { classColour, make, say } from "./elements.js";
import { Numbers, Pad } from "./inputs.js";
import { Plane } from "./plane.js";
import { Refusal, latestOnly, models, predict } from "./server.js";

const PATIENCE = 300; // milliseconds before an old answer is marked as such
const find = (selector) => document.querySelector(selector);
const addressOf = ({ name, version }) => `#${encodeURIComponent(name)}/${version}`;

let [found, model, form] = [[], null, null];
const pad = new Pad(find("#pad"), changed);
const plane = new Plane(find("#plane"), changed);
const forms = [pad, plane, new Numbers(find("#numbers"), changed)];
const answer = new Answer(find("#answer"), (limits) => plane.mark(limits));

async function start() {
  found = await models();
  const option = (each) => {
    const label = each.labels.length ? ` (${each.labels.join(", ")})` : "";
    return make("option", { value: addressOf(each) }, `${each.name}, version ${each.version}${label}`);
  };
  find("#model").replaceChildren(...found.map(option));
  find("main").hidden = !found.length;
  if (!found.length) throw new Refusal("The server has no model that is ready.");
  open();
}

/** Opens the model that the page's address names: that version, else the one labelled stable, else the latest. */
function open() {
  const versionsOf = (hash) => found.filter((each) => addressOf(each).split("/")[0] === hash.split("/")[0]);
  const named = versionsOf(location.hash);
  const versions = named.length ? named : versionsOf(addressOf(found[0]));
  const isStable = ({ labels }) => labels.includes("stable");
  model = versions.find((each) => addressOf(each) === location.hash) ?? versions.find(isStable) ?? versions[0];
  find("#model").value = addressOf(model);
  document.title = `${model.name} – end2_tf`;
  problem("");
  plane.close();
  answer.open(model);
  const last = form;
  form = forms.find((each) => each.kind === model.kind);
  for (const each of forms) each.root.hidden = each !== form;
  say(find("#unable"), model.why && `This page can’t make its inputs: ${model.why}. Ask it over REST or gRPC.`);
  find("#about").textContent = describe();
  showExamples();
  if (!form) return say(find("#shown"), "");
  const isKept = form.open(model) && form === last;
  const [first] = model.metadata.examples ?? [];
  if (isKept) ask();
  else if (first) attempt(() => form.show(first, about(first)));
  else form.clear();
}

function describe() {
  const { kind, shape, dtype, metadata } = model;
  const range = dtype === "uint8" ? "" : ", sent as 0 to 255";
  const image = () => `Images of ${shape[1]} × ${shape[0]} pixels, ${shape[2] === 1 ? "grey" : "in colour"}${range}. `;
  const features = () => (shape[0] === 2 ? "Two features. " : `${shape[0]} features. `);
  const input = { image, plane: features, numbers: features }[kind]?.() ?? "";
  const { classes, distribution } = metadata;
  const names = classes ? `${classes.length} classes. ` : "It came without the names of its classes. ";
  const others = distribution ? "" : "It came without its uncertainties on validation inputs, to compare with.";
  return input + names + others;
}

function about({ set, class: label }) {
  return label === null ? `From ${set}, which it wasn’t trained for.` : `From the ${set} set, of class ${label}.`;
}

function showExamples() {
  const groups = Map.groupBy(form ? (model.metadata.examples ?? []) : [], ({ set }) => set);
  const group = ([set, examples]) => {
    const title = set === "test" ? "Test set" : `Outside: ${set}`;
    const attributes = { role: "group", "aria-label": title, class: examples[0].png ? "images" : "points" };
    return make("div", attributes, make("h3", {}, title), ...examples.map(exampleButton));
  };
  find("#examples").replaceChildren(...[...groups].map(group));
}

function exampleButton(example, i) {
  const label = example.class ?? String(i + 1);
  const button = make("button", { type: "button", title: about(example) });
  if (example.png) button.append(make("img", { src: `data:image/png;base64,${example.png}`, alt: "" }));
  if (model.kind === "plane" && example.class !== null) {
    const dot = make("i");
    dot.style.background = classColour(model.metadata.classes.indexOf(label));
    button.append(dot);
  }
  button.append(label);
  button.addEventListener("click", () => attempt(() => form.show(example, about(example))));
  return button;
}

function changed(description) {
  say(find("#shown"), description);
  ask();
}

/** Asks the model about the input there is. */
const ask = latestOnly(async () => {
  const asked = model;
  if (!form) return;
  const timer = setTimeout(() => answer.setStale(true), PATIENCE);
  await attempt(async () => {
    const outputs = await predict(asked, [form.read()]);
    if (asked !== model) return; // the new one has been asked since
    problem("");
    answer.show(outputs);
  }, ask);
  clearTimeout(timer);
});

/** Does something, and says so if it is refused. */
async function attempt(action, again) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    answer.setStale(true);
    problem(error.message, again);
  }
}

function problem(text, again) {
  const box = find("#problem");
  const [words, button] = box.children;
  say(words, text);
  box.hidden = !text;
  button.hidden = !again;
  button.onclick = again;
}

function openFile(file) {
  if (file && form === pad) attempt(() => pad.showFile(file));
}

find("#model").addEventListener("change", ({ target }) => (location.hash = target.value));
addEventListener("hashchange", () => found.length && open());
find("#file").addEventListener("change", ({ target }) => {
  openFile(target.files[0]);
  target.value = ""; // so that the same file can be opened again
});
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("drop", ({ dataTransfer }) => openFile(dataTransfer.files[0]));

const begin = () => attempt(start, begin);
begin();
