// The field's words, explained where they stand: a button that opens a line or two beside it.

import { element, freshId } from "./dom.js";

const MEANINGS = {
  "thinned network": "The network that is left when one set of masks has dropped some of its units (or weights). Other masks, another thinned network.",
  sample: "One of the T outputs: the answer of one thinned network to this row.",
  mask: "One number for each unit: 0 drops it, 1 keeps it.",
  "weight scaling": "One pass through the whole network in place of the average over all thinned networks. With inverted dropout the scaling is already done while training.",
  "MC dropout": "Monte Carlo dropout: dropout stays on while predicting, many thinned networks answer, and their mean and spread are read off.",
  seed: "A number that names the masks. The same version, seed and number of samples give the same answer, on any machine.",
  "standard error": "How far the mean shown may be from the mean over endlessly many samples. More samples make it smaller.",
  std: "Standard deviation: how widely values are spread around their mean, in their own unit.",
  quantile: "The value that so large a share lies below: of the 5% quantile, 5%. Here as the model itself claims it.",
  interval: "A conformal interval: its width is set by how far off the model was on held-out rows, so that it contains the truth as often as it says, on rows like those of the training table.",
  "prediction set": "The labels that may be the true one: a conformal set, made so large that it contains the truth as often as it says, on rows like those of the training table.",
  conformal: "Set by how far off the model was on rows that it had not seen. It holds whatever the model, on rows like those of the training table, and promises nothing for others.",
  coverage: "How often an interval or a prediction set contains the truth.",
  epistemic: "Doubt of the model itself: its thinned networks disagree. It grows where there were no training rows and shrinks with more of them.",
  aleatoric: "Noise in the data: rows that look the same have different targets. More rows do not help.",
  entropy: "How undecided a distribution over classes is, in nats: 0 if one class has all the probability.",
  "mutual information": "How much of the entropy comes from disagreement: 0 if all thinned networks say the same.",
  "expected entropy": "How undecided each thinned network is by itself, on average.",
  "variation ratio": "The share of the thinned networks that choose another class than most do.",
  "abstain threshold": "Found on held-out rows: the uncertainty above which answering costs more than leaving the row out (Chow's rule).",
  RMSE: "Root mean squared error: the usual size of an error, in the target's unit. Lower is better.",
  "R²": "The share of the target's variance that is explained: 1 is perfect, 0 no better than always saying the mean.",
  Accuracy: "The share of right labels. Higher is better.",
  NLL: "Negative log-likelihood, in nats: how surprised the predicted distribution is by the truth. Lower is better; being sure and wrong costs most.",
  CRPS: "Continuous ranked probability score: the distance between the predicted distribution and the truth, in the target's unit. For a plain number it is the absolute error. Lower is better.",
  Brier: "Mean squared difference between the probabilities and the truth (1 for the true class, 0 for others). Lower is better.",
  ECE: "Calibration error: how far what is claimed, as a probability, is from what happens, on average. Lower is better.",
  AURC: "Area under the risk-coverage curve: the mean error if only the surest rows are answered, over all shares of them. Low if doubt is where the errors are. Lower is better.",
  alias: "A name for a version. “production” is the one that answers when no version is named.",
  "calibration rows": "Held-out rows: neither the weights nor the epoch were chosen by them.",
};

/** The word, as `text` if it stands there in another form, with its meaning behind it. */
export function term(name, text = name) {
  const id = freshId("meaning");
  const meaning = element("span", { id, class: "meaning", popover: "auto", role: "note" }, element("strong", {}, name), ": ", MEANINGS[name]);
  const button = element("button", { type: "button", class: "term", popovertarget: id, onclick: (event) => event.stopPropagation() }, text);
  meaning.addEventListener("beforetoggle", () => put(meaning, button));
  return element("span", {}, button, meaning);
}

/** Below its word, within the window. */
function put(meaning, button) {
  const { left, bottom } = button.getBoundingClientRect();
  const room = document.documentElement.clientWidth - 16;
  const width = Math.min(room, 22 * parseFloat(getComputedStyle(document.documentElement).fontSize));
  meaning.style.width = `${width}px`;
  meaning.style.left = `${scrollX + Math.max(8, Math.min(left, room + 8 - width))}px`;
  meaning.style.top = `${scrollY + bottom + 6}px`;
}
