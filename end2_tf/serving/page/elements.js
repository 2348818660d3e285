// Elements, and the colours of numbers and classes.

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const CLASSES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb"]; // the report's

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/** Returns an HTML element. */
export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Returns an SVG element. */
export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** Shows a text in an element, and the element only if there is one. */
export function say(element, text) {
  element.hidden = !text;
  element.textContent = text || "";
}

/** Returns 256 colours, dark to bright, mixed with a share of white, as a pixel's four bytes each. */
function ramp(white) {
  const bytes = new Uint8ClampedArray(4 * 256).fill(255);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
    for (let c = 0; c < 3; c++) {
      const value = VIRIDIS[low][c] + (VIRIDIS[low + 1][c] - VIRIDIS[low][c]) * (at - low);
      bytes[4 * i + c] = value + (255 - value) * white;
    }
  }
  return new Uint32Array(bytes.buffer);
}

export const [PLAIN, PALE, WHITE] = [0, 0.5, 1].map(ramp);

/** Returns the index of a share's colour; what is beyond 0 and 1 is clamped, NaN is dark. */
export const shade = (share) => Math.max(0, Math.min(255, Math.round(255 * share) || 0));

/** Fills a canvas, `paint(pixels)` an array of colours. */
export function fillCanvas(canvas, paint) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  paint(new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
}

export const classColour = (index) => CLASSES[index % CLASSES.length];
