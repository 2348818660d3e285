// A Dirichlet's density over three classes, on the triangle of their probabilities.

import { PLAIN, fillCanvas, shade } from "./elements.js";

const WIDTH = 400;
const HEIGHT = Math.round((WIDTH * Math.sqrt(3)) / 2);
const DECADES = 3; // of density, on each side of the flat Dirichlet's; beyond, colours are clamped
const LEAST = 1e-3; // probability, half a pixel: at the edge the density is infinite if an alpha is below 1

/** Logarithms of the probabilities at each pixel; what lies beside the triangle is clipped by the style sheet. */
const LOGS = [0, 1, 2].map(() => new Float32Array(WIDTH * HEIGHT));
for (let i = 0; i < WIDTH * HEIGHT; i++) {
  const x = i % WIDTH;
  const top = 1 - ((i - x) / WIDTH + 0.5) / HEIGHT;
  const right = (x + 0.5) / WIDTH - top / 2;
  LOGS[0][i] = Math.log(Math.max(top, LEAST));
  LOGS[1][i] = Math.log(Math.max(1 - top - right, LEAST));
  LOGS[2][i] = Math.log(Math.max(right, LEAST));
}

/** Draws the density: class 0 at the top, class 1 left, class 2 right. */
export function drawDensity(canvas, alphas) {
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const [a, b, c] = alphas.map((alpha) => alpha - 1);
  const flat = Math.LN2; // logarithm of the flat Dirichlet's density
  const constant = logGamma(a + b + c + 3) - alphas.reduce((sum, alpha) => sum + logGamma(alpha), flat);
  fillCanvas(canvas, (pixels) => {
    for (let i = 0; i < pixels.length; i++) {
      const density = constant + a * LOGS[0][i] + b * LOGS[1][i] + c * LOGS[2][i]; // logarithm
      pixels[i] = PLAIN[shade(0.5 + density / Math.LN10 / (2 * DECADES))];
    }
  });
}

/** Returns where probabilities stand, as shares of the width and the height. */
export const position = ([top, , right]) => [right + top / 2, 1 - top];

/** Lanczos' approximation, to about 15 digits, for x > 0. */
function logGamma(x) {
  if (x < 0.5) return logGamma(x + 1) - Math.log(x);
  const terms = [676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  const series = terms.reduce((sum, term, i) => sum + term / (x + i), 0.99999999999980993);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(series);
}
