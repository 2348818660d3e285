// Inputs of images and of features; those of planes are in plane.js. Each form has: open(model), which returns whether
// the input that it shows fits; show(example, about); clear(); and read(), the input as the model takes it.

import { say } from "./elements.js";
import { Refusal } from "./server.js";

/** A drawing pad of the model's own pixels: what it shows is what the model sees. */
export class Pad {
  kind = "image";
  #canvas;
  #context;
  #changed;
  #channels = 1;
  #last = null; // point of the stroke
  #latest = null; // the picture that was asked for last

  /** `changed` is called with a description of the input whenever there is a new one. */
  constructor(root, changed) {
    this.root = root;
    this.#changed = changed;
    this.#canvas = root.querySelector("canvas");
    this.#context = this.#canvas.getContext("2d", { willReadFrequently: true });
    this.#canvas.addEventListener("pointerdown", (event) => event.button || this.#start(event));
    this.#canvas.addEventListener("pointermove", (event) => this.#draw(event));
    root.querySelector("#clear").addEventListener("click", () => this.clear());
    root.querySelector("#invert").addEventListener("click", () => this.#invert());
  }

  open({ shape: [height, width, channels] }) {
    const fits = this.#canvas.width === width && this.#canvas.height === height && this.#channels === channels;
    if (fits) return true;
    [this.#canvas.width, this.#canvas.height, this.#channels] = [width, height, channels];
    this.#canvas.style.aspectRatio = `${width} / ${height}`;
    const pen = this.root.querySelector("#pen-width");
    [pen.min, pen.max, pen.value] = [1, width / 4, width / 12];
    this.root.querySelector("#pen-colour").hidden = channels === 1;
    return false;
  }

  read() {
    const { width, height } = this.#canvas;
    const { data } = this.#context.getImageData(0, 0, width, height);
    const pixel = (at) => [...data.subarray(at, at + this.#channels)];
    const row = (y) => Array.from({ length: width }, (_, x) => pixel(4 * (y * width + x)));
    return Array.from({ length: height }, (_, y) => row(y));
  }

  clear() {
    this.#latest = null;
    this.#blacken();
    this.#changed("An empty pad.");
  }

  #invert() {
    this.#recolour((rgb) => rgb.map((value) => 255 - value), "Inverted.");
  }

  show({ png }, about) {
    const picture = Object.assign(new Image(), { src: `data:image/png;base64,${png}` });
    return this.#paint(picture.decode().then(() => picture), about);
  }

  /** Shows a file of the user's, scaled to the model's size. */
  showFile(file) {
    const picture = createImageBitmap(file).catch(() => {
      throw new Refusal(`${file.name} is no image that this browser can read. Try a PNG or JPEG file.`);
    });
    return this.#paint(picture, `${file.name}, scaled to ${this.#canvas.width} × ${this.#canvas.height} pixels.`);
  }

  async #paint(promise, about) {
    this.#latest = promise;
    const picture = await promise;
    if (this.#latest !== promise) return;
    this.#blacken(); // under what is transparent
    this.#context.imageSmoothingQuality = "high";
    this.#context.drawImage(picture, 0, 0, this.#canvas.width, this.#canvas.height);
    const grey = ([r, g, b]) => Array(3).fill(0.299 * r + 0.587 * g + 0.114 * b);
    this.#recolour(this.#channels === 1 ? grey : (rgb) => rgb, about);
  }

  #blacken() {
    this.#context.fillStyle = "#000000";
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  #recolour(change, about) {
    const image = this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
    for (let at = 0; at < image.data.length; at += 4) image.data.set(change([...image.data.subarray(at, at + 3)]), at);
    this.#context.putImageData(image, 0, 0);
    this.#changed(about);
  }

  #start(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#latest = null;
    this.#context.lineCap = this.#context.lineJoin = "round";
    this.#context.lineWidth = this.root.querySelector("#pen-width").value;
    this.#context.strokeStyle = this.#channels === 1 ? "#ffffff" : this.root.querySelector("#pen-colour input").value;
    this.#last = null;
    this.#draw(event);
  }

  #draw(event) {
    if (!this.#canvas.hasPointerCapture(event.pointerId)) return;
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width;
    const moves = event.getCoalescedEvents().concat(event);
    const points = moves.map(({ clientX, clientY }) => [(clientX - box.left) * scale, (clientY - box.top) * scale]);
    this.#context.beginPath();
    const [[x, y]] = points;
    this.#context.moveTo(...(this.#last ?? [x - 0.01, y])); // a line without length would leave no dot
    for (const point of points) this.#context.lineTo(...point);
    this.#context.stroke();
    this.#last = points.at(-1);
    this.#changed("Your drawing.");
  }
}

/** A text field for the features of models that have more, or fewer, than two. */
export class Numbers {
  kind = "numbers";
  #features = [];
  #changed;

  constructor(root, changed) {
    this.root = root;
    this.#changed = changed;
    this.field = root.querySelector("textarea");
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take("Your numbers.");
    });
  }

  open({ shape: [size] }) {
    const fits = this.#features.length === size;
    if (!fits) this.#features = Array(size).fill(0);
    this.root.querySelector("label").textContent = `${size} numbers, separated by commas`;
    return fits;
  }

  read() {
    return this.#features;
  }

  clear() {
    this.show({ features: this.#features.fill(0) }, "All features 0.");
  }

  show({ features }, about) {
    this.field.value = features.join(", ");
    this.#take(about);
  }

  #take(about) {
    const size = this.#features.length;
    const parts = this.field.value.split(/[\s,;]+/).filter(Boolean);
    const wrong = parts.find((part) => !Number.isFinite(Number(part)));
    const amount = parts.length === size ? "" : `There are ${parts.length} numbers; the model takes ${size}.`;
    const problem = wrong === undefined ? amount : `“${wrong}” is no number.`;
    say(this.root.querySelector("#numbers-problem"), problem);
    if (problem) return;
    this.#features = parts.map(Number);
    this.#changed(about);
  }
}
