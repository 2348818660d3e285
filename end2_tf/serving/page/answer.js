// What a model says: its decision, the classes' probabilities, the uncertainties and their limits.

import { make, say } from "./elements.js";
import { MEASURES, calibrated, count, doubts, nats, percent, read } from "./measures.js";
import { drawDensity, position } from "./simplex.js";
import { Strip } from "./strip.js";

const MOST_CLASSES = 16; // shown in their order; of more, the most probable

export class Answer {
  #model = null;
  #said = null; // of the last input
  #limits = null;
  #numClasses = 0;
  #moved;

  /** `moved` is called with the limits whenever they change. */
  constructor(root, moved) {
    this.root = root;
    this.#moved = moved;
    const strip = (name) => [name, new Strip(name, (limit, value) => this.#setLimits({ [limit]: value }))];
    this.strips = Object.fromEntries(Object.keys(MEASURES).map(strip));
    this.#find("#measures").append(...Object.values(this.strips).map((strip) => strip.root));
    this.#find("#reset").addEventListener("click", () => this.#setLimits(calibrated(this.#model)));
  }

  open(model) {
    this.#model = model;
    this.#said = null;
    this.#limits = calibrated(model);
    this.root.hidden = model.kind === "none";
    this.root.classList.add("empty");
    this.#scale(model.metadata.classes?.length ?? 2);
    this.#showEffect();
  }

  /** Shows a model's outputs for one input. */
  show(outputs) {
    this.setStale(false);
    this.#said = read(outputs);
    this.root.classList.remove("empty");
    const parts = ["#probabilities", "#simplex", "#precision", "#uncertainty"];
    for (const part of parts) this.#find(part).hidden = !this.#said;
    say(this.#find("#raw"), this.#said ? "" : JSON.stringify(outputs, null, 1));
    this.#decide();
    if (!this.#said) return;
    const isBlind = this.#said.knowledge === undefined;
    say(this.#find("#lacks"), isBlind && "This model doesn’t tell data from knowledge uncertainty.");
    if (this.#said.probs.length !== this.#numClasses) this.#scale(this.#said.probs.length);
    this.#showProbabilities();
    this.#showDirichlet();
    for (const [name, strip] of Object.entries(this.strips)) strip.show(this.#said[name]);
  }

  /** Marks what is shown as the answer to an earlier input. */
  setStale(isStale) {
    this.root.classList.toggle("stale", isStale);
    this.root.setAttribute("aria-busy", isStale);
  }

  #find(selector) {
    return this.root.querySelector(selector);
  }

  #name(index) {
    return this.#model.metadata.classes?.[index] ?? `class ${index}`;
  }

  #scale(numClasses) {
    this.#numClasses = numClasses;
    for (const strip of Object.values(this.strips)) strip.open(this.#model.metadata.distribution, numClasses);
    this.#setLimits({});
  }

  #setLimits(changes) {
    this.#limits = { ...this.#limits, ...changes };
    this.strips.total.setLimit(this.#limits.uncertain);
    this.strips.knowledge.setLimit(this.#limits.unfamiliar);
    const own = calibrated(this.#model);
    const isOwn = own.uncertain === this.#limits.uncertain && own.unfamiliar === this.#limits.unfamiliar;
    const theirs = this.#model.metadata.thresholds ? "These are the calibrated limits." : "It came without limits.";
    this.#find("#limits span").textContent = isOwn ? theirs : "These limits are yours.";
    this.#find("#reset").disabled = isOwn;
    this.#decide();
    this.#moved(this.#limits);
  }

  #decide() {
    const box = this.#find("#decision");
    box.hidden = !this.#said;
    if (!this.#said) return;
    const { probs, total, knowledge } = this.#said;
    const most = Math.max(...probs);
    const name = this.#name(probs.indexOf(most));
    const why = doubts(this.#said, this.#limits);
    const reason = (each) => {
      const [name, value] = each === "uncertain" ? ["total", total] : ["knowledge", knowledge];
      if (Number.isNaN(value)) return `${name} uncertainty is not a number`;
      return `${name} uncertainty ${nats(value)} is above the limit ${nats(this.#limits[each])}`;
    };
    const [status, because] = box.children;
    const [verdict, rest] = why.length ? ["Abstain", `: ${why.join(" and ")}`] : ["Answer", `: ${name}`];
    // A screen reader reads it whenever it changes, so it changes only if the decision does.
    if (status.textContent !== verdict + rest) status.replaceChildren(make("b", {}, verdict), rest);
    box.className = verdict.toLowerCase();
    const guess = Number.isNaN(most) ? "" : ` It would have said ${name}, ${percent(most, 1)}.`;
    const isLimited = Object.values(this.#limits).some(Number.isFinite);
    const familiar = "Certain and familiar: no uncertainty is above its limit.";
    const within = isLimited ? familiar : "Without limits all is answered.";
    because.textContent = why.length
      ? `Its ${why.map(reason).join(", and its ")}.${guess}`
      : `${percent(most, 1)} probable. ${within}`;
  }

  #showProbabilities() {
    const { probs } = this.#said;
    const order = [...probs.keys()];
    const most = Math.max(...probs);
    if (order.length > MOST_CLASSES) order.sort((a, b) => probs[b] - probs[a]).splice(MOST_CLASSES);
    const row = (i) => {
      const bar = make("i");
      bar.style.width = `${100 * probs[i]}%`;
      const cells = [this.#name(i), bar, percent(probs[i], 1)].map((each) => make("span", {}, each));
      return make("li", { class: probs[i] === most ? "best" : "" }, ...cells);
    };
    this.#find("#probabilities").replaceChildren(...order.map(row));
  }

  #showDirichlet() {
    const { alphas, probs } = this.#said;
    const figure = this.#find("#simplex");
    const precision = alphas?.reduce((sum, alpha) => sum + alpha).toLocaleString("en", { maximumSignificantDigits: 3 });
    const sharp = `Precision α₀ = ${precision}: how sharp its Dirichlet is; the flat one’s is ${probs.length}.`;
    say(this.#find("#precision"), alphas && sharp);
    figure.hidden = alphas?.length !== 3;
    if (figure.hidden) return;
    const [canvas, ring] = figure.querySelectorAll("canvas, i");
    drawDensity(canvas, alphas);
    const written = alphas.map((alpha) => alpha.toPrecision(3)).join(", ");
    canvas.setAttribute("aria-label", `Density of the Dirichlet with alphas ${written}`);
    [ring.style.left, ring.style.top] = position(probs).map((share) => `${100 * share}%`);
    for (const [i, corner] of figure.querySelectorAll("span").entries()) corner.textContent = this.#name(i);
  }

  /** Shows what the calibrated limits did to the test set and to inputs from outside. */
  #showEffect() {
    const { decisions, thresholds } = this.#model.metadata;
    this.#find("#effect").hidden = !decisions || !thresholds;
    if (!decisions || !thresholds) return;
    const target = `${Number((100 * thresholds.target).toPrecision(6))}\u00a0%`; // as it was asked for
    const share = `to answer ${target} of inputs`;
    const aim = thresholds.rule === "coverage" ? share : `for at most ${target} errors in the answers to inputs`;
    this.#find("#effect p").textContent =
      `They were chosen ${aim} like those it was trained for, on ${count(thresholds.num_calibration)} held-out ones.`;
    const written = (value) => (Number.isFinite(value) ? percent(value, 1) : "–");
    const row = ([set, { n, abstained, error, error_of_all: errorOfAll }]) => {
      const cells = [count(n), written(1 - abstained), written(error), written(errorOfAll)];
      return make("tr", {}, make("th", { scope: "row" }, set), ...cells.map((text) => make("td", {}, text)));
    };
    this.#find("#effect tbody").replaceChildren(...Object.entries(decisions).map(row));
  }
}
