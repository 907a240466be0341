// What Play says in words: of the mode, of p, of one unit. Every sentence has to be true of the
// model in view, whatever its kind of dropout.

import { element } from "./dom.js";
import { term } from "./terms.js";
import { number, whole } from "./text.js";

const SRIVASTAVA = ["Srivastava et al. 2014", "https://jmlr.org/papers/v15/srivastava14a.html"];
const GAL = ["Gal & Ghahramani 2016", "https://proceedings.mlr.press/v48/gal16.html"];
const cite = ([text, href]) => element("a", { href, rel: "noreferrer" }, text);

/** Paragraphs on what is to be seen. */
export function explain(look, mode, p, trained) {
  const kind = look.layers[0].kind;
  return [
    element("p", {}, mode === "eval" ? EVAL : [inTrainMode(kind, look), "Each new set of masks makes another ", term("thinned network"), ", and gives another output."]),
    ...(mode === "train" && p !== null
      ? [element("p", {}, `This version was trained with p = ${trained}. With p = ${number(p)} you see what its weights would do then, computed by the service; a network trained with that p would have other weights.`)]
      : []),
    element(
      "p", {},
      "Keeping dropout on while predicting, and averaging, is ", term("MC dropout", "Monte Carlo dropout"), ": the mean of the outputs is the prediction, their spread the network's own doubt (", cite(GAL),
      "). Eval mode stands for that average with one pass through the whole network. ", cite(SRIVASTAVA),
      " call it ", term("weight scaling"), ": there the weights are scaled down at test time; here, as in PyTorch, what survives is scaled up while training (inverted dropout), and eval mode has nothing left to scale. The two agree closely, not exactly: “Averaging samples” shows the gap.",
    ),
    element(
      "p", { class: "note" },
      element("strong", {}, "Which p? "), "Here, as in PyTorch, p is the probability that a unit is ", element("em", {}, "dropped"),
      ". In ", cite(SRIVASTAVA), " p is the probability that it is ", element("em", {}, "kept"), `: what is 0.1 here is 0.9 there.`,
    ),
  ];
}

const EVAL =
  "In eval mode dropout is off. Every unit works, every weight is used as it is, and the same row gives the same output every time. This is what :predict answers with.";

function inTrainMode(kind, look) {
  const active = look.layers.filter((layer) => layer.p > 0);
  const ps = [...new Set(active.map((layer) => number(layer.p)))];
  const of = ps.length === 1 ? `p = ${ps[0]}` : `its layer's p (${active.map((layer) => `${layer.name}: ${number(layer.p)}`).join(", ")})`;
  const scale = ps.length === 1 ? `1/(1 − p) = ${number(active[0].scale)}` : "1/(1 − p)";
  if (kind === "dropconnect") {
    return `In train mode weights are dropped, not units (DropConnect): each weight of a layer that drops is left out with probability ${of}, and those that stay are multiplied by ${scale}, so that what a unit receives keeps its expected value. `;
  }
  if (kind === "gaussian") {
    return `In train mode no unit is dropped: each is multiplied by a random number around 1 with variance p/(1 − p), the noise that dropping with ${of} would have had (Gaussian dropout). `;
  }
  const keeps = `so that what the next layer receives keeps its expected value. `;
  if (kind === "concrete") {
    return `In train mode each unit is multiplied by a random number between 0 and 1, mostly close to one end, and by ${scale} (Concrete dropout, a smooth form of dropping with probability ${of}, by which p itself can be learned). Units whose number is at most ½ are struck out. `;
  }
  return `In train mode each unit is dropped with probability ${of}; what survives is multiplied by ${scale}, ${keeps}`;
}

/** The numbers of one unit, from activation to result. */
export function explainUnit(look, mode, { layer: index, at }) {
  const layer = look.layers[index];
  const unit = layer.shown[at];
  const title = element("p", { class: "unit-name" }, element("strong", {}, `${layer.name}, unit ${whole(unit + 1)}`), ` of ${whole(layer.units)}`);
  if (layer.p === 0) {
    return [title, element("p", {}, `This layer has no dropout (p = 0): its value ${number(layer.masked_activations[at])} goes on as it is.`)];
  }
  if (mode === "eval") {
    const value = number(layer.eval_activations[at]);
    const what = layer.kind === "dropconnect" ? "All weights into it are used as they are" : "No mask, no scaling";
    return [title, sum([["activation", value], ["=", null], ["goes on as", value]]), element("p", { class: "hint" }, `${what}: in eval mode the value goes on unchanged.`)];
  }
  return [title, ...(layer.kind === "dropconnect" ? ofWeights(look, layer, at) : ofUnit(layer, at))];
}

function ofUnit(layer, at) {
  const activation = layer.sample_activations[at];
  const mask = layer.mask[at];
  const masked = layer.masked_activations[at];
  const isNoise = layer.kind === "gaussian";
  const steps = [["activation", number(activation)], ["×", null], [isNoise ? "noise" : "mask", number(mask)]];
  if (!isNoise) steps.push(["×", null], ["1/(1 − p)", number(layer.scale)]);
  steps.push(["=", null], ["goes on as", number(masked)]);
  const words = isNoise
    ? "The noise is 1 on average, so nothing needs scaling."
    : layer.kind === "concrete"
      ? "A mask near 0 all but drops the unit, one near 1 keeps it."
      : mask === 0
        ? "Dropped: whatever it had computed, the next layer receives 0 from it."
        : `Kept, and multiplied by ${number(layer.scale)} to make up for those that are dropped.`;
  const quiet = activation === 0 && mask !== 0 ? " Its activation is 0 for this row, so dropping it or not makes no difference." : "";
  return [sum(steps), element("p", { class: "hint" }, words + quiet)];
}

function ofWeights(look, layer, at) {
  const dropped = layer.mask[at].filter((factor) => factor === 0).length;
  return [
    sum([["with all weights", number(layer.sample_activations[at])], ["→", null], ["with dropped weights", number(layer.masked_activations[at])]]),
    element("p", { class: "hint" }, `Of the ${layer.mask[at].length} weights into it that are drawn, ${dropped} ${dropped === 1 ? "is" : "are"} dropped; the others are multiplied by 1/(1 − p) = ${number(layer.scale)}.`),
  ];
}

/** Numbers above their names, as one calculation; a sign stays with the number after it. */
function sum(steps) {
  const parts = [];
  let sign = null;
  for (const [name, value] of steps) {
    if (value === null) {
      sign = element("span", { class: "sign" }, name);
      continue;
    }
    const figure = element("span", { class: "number" }, element("b", {}, value), element("small", {}, name));
    parts.push(element("span", { class: "step" }, sign, figure));
    sign = null;
  }
  return element("div", { class: "sum" }, parts);
}
