// One uncertainty: its value on a scale, over how those of validation inputs are distributed, and its limit to move.

import { draw, make } from "./elements.js";
import { MEASURES, nats, percent, place, shareBelow } from "./measures.js";

const STEPS = 500; // of the slider; the last one is no limit
const BINS = 80;
const TICKS = [0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 9];
const across = (at) => `${100 * at}%`;

export class Strip {
  #percentiles;
  #n; // validation inputs
  #largest; // nats, at the end of the scale
  #name;

  /** `moved` is called with a new limit. */
  constructor(name, moved) {
    this.#name = name;
    const { title, meaning, limit } = MEASURES[name];
    [this.value, this.place, this.share] = [make("span"), make("p"), make("p", { class: "soft" })];
    this.picture = draw("svg", { class: "strip", "aria-hidden": "true" });
    const heading = make("h3", {}, title, this.value);
    const explained = make("p", { class: "soft" }, meaning);
    this.root = make("div", { class: "measure", id: name }, heading, explained, this.place, this.picture);
    if (!limit) return;
    const label = `Limit of ${title.toLowerCase()} uncertainty`;
    this.slider = make("input", { type: "range", min: 0, max: STEPS, "aria-label": label });
    this.slider.addEventListener("input", () => {
      const at = this.slider.valueAsNumber / STEPS;
      moved(limit, at === 1 ? Infinity : this.#largest * at ** 2);
    });
    this.root.append(this.slider, this.share);
  }

  /** Takes a model's distribution on validation inputs, which may be unknown, and its number of classes. */
  open(distribution, numClasses) {
    this.#percentiles = distribution?.percentiles?.[`${this.#name}_uncertainty`];
    this.#n = distribution?.n;
    this.#largest = Math.log(Math.max(numClasses, 2)); // no uncertainty is larger
    const ticks = [0];
    for (const tick of TICKS) {
      if (this.#at(tick) - this.#at(ticks.at(-1)) >= 0.09 && this.#at(tick) < 0.97) ticks.push(tick);
    }
    const label = (tick) => draw("text", { y: 55, "text-anchor": tick ? "middle" : "start" }, String(tick));
    const mark = () => draw("path", { d: "M0 40V44" });
    const axis = ticks.map((at) => draw("svg", { x: across(this.#at(at)), overflow: "visible" }, mark(), label(at)));
    this.beyond = draw("rect", { height: 40, class: "beyond" });
    this.limit = draw("line", { y2: 44, class: "limit" });
    this.needle = draw("svg", { overflow: "visible", class: "needle" }, draw("path", { d: "M0 40V9M-6 0H6L0 10Z" }));
    this.picture.replaceChildren(this.#hill(), draw("line", { x2: "100%", y1: 40, y2: 40 }), ...axis);
    if (this.slider) this.picture.append(this.beyond, this.limit);
    this.picture.append(this.needle);
  }

  show(value) {
    this.root.hidden = value === undefined;
    if (this.root.hidden) return;
    this.value.textContent = `${nats(value)} nats`;
    this.place.textContent = this.#percentiles ? place(this.#percentiles, this.#n, value) : "";
    this.needle.setAttribute("x", across(this.#at(value || 0)));
  }

  setLimit(limit) {
    const at = this.#at(limit);
    this.slider.value = Math.round(at * STEPS);
    for (const [name, value] of [["x1", at], ["x2", at]]) this.limit.setAttribute(name, across(value));
    for (const [name, value] of [["x", at], ["width", 1 - at]]) this.beyond.setAttribute(name, across(value));
    const said = limit === Infinity ? "No limit" : `Limit ${nats(limit)} nats`;
    const below = this.#percentiles && `${percent(shareBelow(this.#percentiles, limit))} of validation is below it`;
    this.share.textContent = below ? `${said}: ${below}` : said;
    this.slider.setAttribute("aria-valuetext", this.share.textContent);
  }

  /** Returns the place on the scale, from 0 to 1: a square root, so that small values are told apart. */
  #at(value) {
    return Math.sqrt(Math.max(0, Math.min(1, value / this.#largest)));
  }

  /** Draws the density of validation inputs along the scale, as its root, so that tails are seen. */
  #hill() {
    if (!this.#percentiles) return "";
    const edges = Array.from({ length: BINS + 1 }, (_, i) => this.#largest * (i / BINS) ** 2);
    const below = edges.map((edge) => shareBelow(this.#percentiles, edge));
    const density = Array.from({ length: BINS }, (_, i) => Math.sqrt(below[i + 1] - below[i]));
    const line = density.map((each, i) => `L${i + 0.5} ${1 - (0.9 * each) / Math.max(...density)}`);
    const box = { viewBox: `0 0 ${BINS} 1`, preserveAspectRatio: "none", height: 40, class: "hill" };
    return draw("svg", box, draw("path", { d: `M0 1${line.join("")}L${BINS} 1Z` }));
  }
}
