// The plane of a model's two features: a point to move, over a heat map of an uncertainty.

import { PALE, PLAIN, WHITE, classColour, draw, fillCanvas, make, say, shade } from "./elements.js";
import { MEASURES, exceeds, nats, read } from "./measures.js";
import { Refusal, predict } from "./server.js";

const POINTS = 64; // of the grid, across
const ROWS = 8; // of the grid, a request: a click's prediction waits for no more, and the server's queue isn't filled
const SIZE = 400; // pixels of the heat map, across
const PATIENCE = 300; // milliseconds before progress is shown
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

export class Plane {
  kind = "plane";
  #point = [0, 0];
  #reach = 1; // of both axes, on each side of 0
  #model = null;
  #limits = null;
  #fields = null; // measure to SIZE × SIZE values
  #fetching = new AbortController();
  #changed;

  constructor(root, changed) {
    this.root = root;
    this.#changed = changed;
    const find = (selector) => root.querySelector(selector);
    [this.map, this.backdrop, this.range] = [find("#map"), find("#backdrop"), find("#range")];
    this.features = [find("#feature-1"), find("#feature-2")];
    this.map.addEventListener("click", (event) => this.#drag(event)); // not pointerdown, with which a finger may scroll
    this.map.addEventListener("pointermove", (event) => event.buttons & 1 && this.#drag(event));
    this.map.addEventListener("keydown", (event) => this.#press(event));
    this.backdrop.addEventListener("change", () => this.#paint());
    this.range.addEventListener("change", () => this.#rescale(this.range.valueAsNumber));
    for (const field of this.features) field.addEventListener("input", () => this.#type());
    fillCanvas(find("#scale canvas"), (pixels) => pixels.set(PLAIN));
  }

  open(model) {
    this.#model = model;
    this.#fields = null;
    const isKnown = (name) => name === "total" || model.outputs.includes(`${name}_uncertainty`);
    const known = Object.keys(MEASURES).filter(isKnown);
    this.backdrop.replaceChildren(...known.map((name) => make("option", { value: name }, MEASURES[name].title)));
    this.backdrop.value = known.at(-1);
    const reach = Math.max(0, ...this.#examples.flatMap(({ features }) => features.map(Math.abs)));
    this.#rescale(Number((1.2 * reach).toPrecision(2)) || this.#reach);
    return Math.max(...this.#point.map(Math.abs)) <= this.#reach;
  }

  close() {
    this.#fetching.abort();
  }

  read() {
    return this.#point;
  }

  clear() {
    this.#move([0, 0], "The origin.");
  }

  show({ features }, about) {
    this.#move(features, about);
  }

  /** Marks where the model abstains under these limits. */
  mark(limits) {
    this.#limits = limits;
    this.#paint();
  }

  get #examples() {
    return this.#model.metadata.examples ?? [];
  }

  #drag({ clientX, clientY }) {
    const box = this.map.getBoundingClientRect();
    const [x, y] = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    this.#move([(2 * x - 1) * this.#reach, (1 - 2 * y) * this.#reach]);
  }

  #press(event) {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const step = (this.#reach / 100) * (event.shiftKey ? 10 : 1);
    this.#move(this.#point.map((value, i) => value + step * ARROWS[event.key][i]));
  }

  #type() {
    const point = this.features.map((field) => field.valueAsNumber);
    if (point.every(Number.isFinite)) this.#place(point, "Your point.");
  }

  #move(point, about = "Your point.") {
    const rounded = point.map((value) => Number(value.toPrecision(4)));
    for (const [i, field] of this.features.entries()) field.value = rounded[i];
    this.#place(rounded, about);
  }

  #place(point, about) {
    this.#point = point;
    this.#drawMarks();
    this.#changed(about);
  }

  #rescale(reach) {
    if (!(reach > 0)) return;
    this.#reach = this.range.value = reach;
    this.#drawMarks();
    this.#fetch();
  }

  #drawMarks() {
    const { classes } = this.#model.metadata;
    const percent = (value) => `${50 + (50 * value) / this.#reach}%`;
    const at = ([x, y], ...shapes) => draw("svg", { x: percent(x), y: percent(-y), overflow: "visible" }, ...shapes);
    const inside = (label) => draw("circle", { r: 5, class: "inside", fill: classColour(classes.indexOf(label)) });
    const outside = () => draw("path", { d: "M-4-4 4 4M-4 4 4-4", class: "outside" });
    const mark = ({ features, class: label }) => at(features, label === null ? outside() : inside(label));
    const shape = "M-13 0H-5A5 5 0 1 1 5 0H13M5 0A5 5 0 1 1-5 0M0-13V-5M0 5V13";
    const cross = (name) => draw("path", { d: shape, class: name });
    const point = at(this.#point, cross("rim"), cross("line"));
    this.map.querySelector("svg").replaceChildren(...this.#examples.map(mark), point);
  }

  /** Asks for the grid, top row first, a few rows at a time. */
  async #fetch() {
    this.#fetching.abort();
    const { signal } = (this.#fetching = new AbortController());
    const [progress, problem] = [this.root.querySelector("#map-progress"), this.root.querySelector("#map-problem")];
    const bar = progress.querySelector("progress");
    const timer = setTimeout(() => (progress.hidden = false), PATIENCE);
    const value = (i) => ((2 * i) / (POINTS - 1) - 1) * this.#reach;
    const answers = [];
    say(problem, "");
    try {
      for (let row = 0; row < POINTS; row += ROWS) {
        bar.value = row / POINTS;
        const point = (_, i) => [value(i % POINTS), -value(row + Math.floor(i / POINTS))];
        const outputs = await predict(this.#model, Array.from({ length: ROWS * POINTS }, point), signal);
        for (let i = 0; i < ROWS * POINTS; i++) answers.push(read(outputs, i));
      }
      if (!answers[0]) throw new Refusal("The model gives no probabilities.");
      const field = (name) => [name, enlarge(answers.map((answer) => answer?.[name]))];
      this.#fields = Object.fromEntries(Object.keys(MEASURES).map(field));
      this.#paint();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      say(problem, `There is no heat map. ${error.message}`);
    } finally {
      clearTimeout(timer);
      if (!signal.aborted) progress.hidden = true;
    }
  }

  #paint() {
    const [canvas, scale] = [this.map.querySelector("canvas"), this.root.querySelector("#scale")];
    scale.hidden = !this.#fields;
    if (!this.#fields) return fillCanvas(canvas, () => {});
    const shown = this.#fields[this.backdrop.value];
    const largest = shown.reduce((most, each) => Math.max(most, each), 0);
    scale.querySelector("canvas + span").textContent = `${nats(largest)} nats`;
    const abstains = this.#abstained();
    fillCanvas(canvas, (pixels) => {
      for (let i = 0; i < pixels.length; i++) {
        const x = i % SIZE;
        const y = (i - x) / SIZE;
        const isBorder = (x && abstains[i] !== abstains[i - 1]) || (y && abstains[i] !== abstains[i - SIZE]);
        const ramp = isBorder ? WHITE : abstains[i] && (x + y) % 9 === 0 ? PALE : PLAIN;
        pixels[i] = ramp[shade(shown[i] / largest)];
      }
    });
  }

  /** Returns for each pixel whether the model abstains. */
  #abstained() {
    const { total, knowledge } = this.#fields;
    const { uncertain, unfamiliar } = this.#limits;
    const isKnown = this.#model.outputs.includes("knowledge_uncertainty");
    const abstains = new Uint8Array(SIZE * SIZE);
    for (let i = 0; i < abstains.length; i++) {
      abstains[i] = exceeds(total[i], uncertain) || (isKnown && exceeds(knowledge[i], unfamiliar));
    }
    return abstains;
  }
}

/** Interpolates POINTS × POINTS values to SIZE × SIZE; NaN where they are unknown. */
function enlarge(values) {
  const low = (i) => Math.min(Math.floor((i / (SIZE - 1)) * (POINTS - 1)), POINTS - 2);
  const [lows, shares] = [new Uint8Array(SIZE), new Float32Array(SIZE)];
  for (let i = 0; i < SIZE; i++) [lows[i], shares[i]] = [low(i), (i / (SIZE - 1)) * (POINTS - 1) - low(i)];
  const across = (i, share) => values[i] * (1 - share) + values[i + 1] * share;
  return Float32Array.from({ length: SIZE * SIZE }, (_, at) => {
    const x = at % SIZE;
    const y = (at - x) / SIZE;
    const i = lows[y] * POINTS + lows[x];
    return across(i, shares[x]) * (1 - shares[y]) + across(i + POINTS, shares[x]) * shares[y];
  });
}
