// An answer of :predict and one of :uncertainty, as they are read: what, how sure, and why.

import { element } from "./dom.js";
import { draw, figure } from "./plot.js";
import { term } from "./terms.js";
import { listed, number, percent, whole } from "./text.js";

const FLAGS = {
  out_of_range: (name) => `${name} lies outside what training saw`,
  unknown_category: (name) => `${name} has a category that training did not have`,
  missing: (name) => `${name} is missing and was imputed`,
};

/** Eval mode: one deterministic pass. */
export function prediction(card, row) {
  const isClass = card.task === "classification";
  return element(
    "div", { class: "card prediction" },
    element("h2", {}, "Prediction (eval mode)"),
    element("p", { class: "hint" }, card.target),
    element("p", { class: "big" }, isClass ? row.label : number(row.value, 5)),
    element("p", { class: "hint" }, isClass ? `with probability ${percent(row.probabilities[row.label])}. ` : "", "One pass, dropout off: the same row gives the same answer every time."),
    flags(row.flags),
  );
}

/** MC mode: many thinned networks; appended before it is drawn, as plots need a place. */
export function distribution(place, card, answer) {
  const [row] = answer.predictions;
  const isClass = card.task === "classification";
  const plots = isClass ? classes(card, row) : numbers(card, row, answer);
  place.append(
    element(
      "div", { class: "card distribution" },
      element("h2", {}, "Distribution (", term("MC dropout"), ")"),
      element("p", {}, chip(row), element("span", { class: "hint" }, reason(card, row))),
      element("p", { class: "summary" }, isClass ? inWordsOfClasses(row) : inWords(row)),
      promise(row),
      plots.nodes,
      flags(row.flags),
      element("p", { class: "hint" }, `${whole(answer.samples_used)} `, term("thinned network", "thinned networks"), " drawn, ", term("seed"), ` ${answer.seed}.`),
    ),
  );
  plots.draw();
}

/** Features in which the row is unlike all training rows. */
function foreign(row) {
  return (row.flags ?? []).filter((flag) => !flag.startsWith("missing:")).map((flag) => flag.slice(flag.indexOf(":") + 1));
}

/** The decision goes by the spread alone: green only where that may be relied on. */
function chip(row) {
  const kind = row.decision === "accept" && foreign(row).length ? "flag" : row.decision;
  return element("span", { class: `chip decision ${kind}` }, row.decision);
}

/** Why the decision is what it is, by the threshold that calibration has found. */
function reason(card, row) {
  const [[measure, threshold]] = Object.entries(card.calibration.abstain_above);
  const value = measure === "std" ? row.std : row.entropy;
  const name = measure === "std" ? "the total std" : "the entropy";
  const is = row.decision === "accept" ? "is not above" : "is above";
  const doubt = foreign(row).length ? "by its spread alone, which is a guess where there were no training rows" : "no more doubt than this model usually has";
  const advice = row.decision === "accept" ? doubt : "better not rely on it";
  return [` ${advice}: ${name}, ${number(value)}, ${is} the `, term("abstain threshold", "threshold"), ` ${number(threshold)} found at calibration`];
}

function flags(found) {
  if (!found?.length) return null;
  const texts = found.map((flag) => {
    const at = flag.indexOf(":");
    return FLAGS[flag.slice(0, at)]?.(flag.slice(at + 1)) ?? flag;
  });
  return element("p", { class: "flags" }, texts.map((text) => element("span", { class: "chip flag" }, text)));
}

function inWords(row) {
  const { coverage, lower, upper } = row.interval;
  return [`On average ${number(row.mean, 5)}. The ${percent(coverage)} `, term("interval"), ` is ${number(lower)} to ${number(upper)}.`];
}

function inWordsOfClasses(row) {
  const { coverage, labels } = row.prediction_set;
  const set = labels.length === 1 ? `${labels[0]} alone` : labels.length > 4 ? `${whole(labels.length)} of ${whole(Object.keys(row.probabilities).length)} classes` : listed(labels);
  return [`Most probable: ${row.label} (${percent(row.probabilities[row.label])}). The ${percent(coverage)} `, term("prediction set"), ` is ${set}.`];
}

/** For which rows the coverage is promised, and whether this is one of them. */
function promise(row) {
  const { coverage } = row.interval ?? row.prediction_set;
  const often = `${row.interval ? "" : "at least "}${percent(coverage)} of the time`;
  const unlike = foreign(row);
  if (!unlike.length) return element("p", { class: "hint" }, `On rows like those of the training table it contains the truth ${often}.`);
  return element(
    "p", { class: "note warning" },
    element("strong", {}, `Not promised here. `),
    `Containing the truth ${often} is promised for rows like those of the training table alone, and this one is unlike them in ${listed(unlike)}.`,
  );
}

function numbers(card, row, answer) {
  const shape = figure(`Histogram of ${answer.samples_used} samples of ${card.target}, with the mean ${number(row.mean)} and the interval`);
  const quantiles = Object.entries(row.quantiles).map(([level, value]) => [Number(level), value]).sort((a, b) => a[0] - b[0]);
  const levels = quantiles.map(([level]) => level);
  shape.caption.textContent = "Bars: the thinned networks' means, whose spread is epistemic. Below them what is claimed of a new value, noise included: the model's own quantiles, and the conformal interval. Where the two disagree, trust the interval, on rows like those of training.";
  const facts = [
    ["Mean", number(row.mean, 5)], [[term("standard error", "Standard error"), " of the mean"], number(row.standard_error, 2)], [["Total ", term("std")], number(row.std)],
    ...quantiles.map(([level, value]) => [[`${percent(level)} `, term("quantile")], number(value)]),
  ];
  return {
    nodes: [shape.node, parts("Where the doubt comes from", "variance", ["epistemic", row.epistemic_std, "the thinned networks disagree; more data helps"], ["aleatoric", row.aleatoric_std, foreign(row).length ? "noise in the target, as guessed from other rows" : "noise in the target; more data does not help"], (value) => value ** 2, "std"), definitions(facts)],
    draw: () => draw(shape.plot, (theme) => {
      const line = (x, name, colour, dash) => ({ x: [x, x], y: [0, 1], yaxis: "y", mode: "lines", name, line: { color: colour, dash, width: 2 }, hoverinfo: "name+x" });
      const span = (from, to, y, name, colour) => ({ x: [from, to], y: [y, y], yaxis: "y2", mode: "lines+markers", name, line: { color: colour, width: 4 }, marker: { symbol: "line-ns-open", size: 12, color: colour, line: { width: 2, color: colour } } });
      return {
        traces: [
          { x: row.samples, type: "histogram", nbinsx: 24, histnorm: "probability", name: "samples", marker: { color: theme.band }, yaxis: "y3" },
          line(row.value, "eval mode", theme.second, "dash"), line(row.mean, "mean", theme.accent, "solid"),
          span(quantiles[0][1], quantiles.at(-1)[1], 1, `${percent(levels[0])} to ${percent(levels.at(-1))} quantile`, theme.muted),
          span(row.interval.lower, row.interval.upper, 0, `${percent(row.interval.coverage)} interval`, theme.accent),
        ],
        layout: {
          height: 320, hovermode: "closest", bargap: 0.04, xaxis: { title: card.target, anchor: "y2" },
          yaxis: { domain: [0.3, 1], range: [0, 1], visible: false }, yaxis3: { domain: [0.3, 1], overlaying: "y", visible: false },
          yaxis2: { domain: [0, 0.22], range: [-0.7, 1.7], visible: false },
        },
      };
    }),
  };
}

function classes(card, row) {
  const shape = figure(`Probability of each class, with its spread over the samples`);
  const labels = card.labels;
  shape.caption.textContent = "Bars: mean probability over the thinned networks; whiskers: one standard deviation over them; diamonds: eval mode.";
  const members = row.prediction_set.labels;
  const facts = [
    [[term("entropy", "Entropy"), " (nats)"], number(row.entropy)], [term("variation ratio", "Variation ratio"), percent(row.variation_ratio)],
    [[term("standard error", "Standard error"), ", largest"], number(Math.max(...Object.values(row.standard_error)), 2)],
  ];
  return {
    nodes: [
      shape.node,
      element("p", {}, `${percent(row.prediction_set.coverage)} prediction set: `, members.map((label) => element("span", { class: "chip good" }, label))),
      parts("Where the doubt comes from", "entropy", ["epistemic", row.mutual_information, [term("mutual information"), ": the thinned networks disagree"]], ["aleatoric", row.expected_entropy, [term("expected entropy"), ": each of them is unsure by itself"]], (value) => value, "nats"),
      definitions(facts),
    ],
    draw: () => draw(shape.plot, (theme) => ({
      traces: [
        { type: "bar", orientation: "h", y: labels, x: labels.map((label) => row.probabilities[label]), name: "MC mean", marker: { color: labels.map((label) => (members.includes(label) ? theme.accent : theme.band)) },
          error_x: { type: "data", array: labels.map((label) => row.std[label]), color: theme.text, thickness: 1.5 } },
        { mode: "markers", y: labels, x: labels.map((label) => row.deterministic.probabilities[label]), name: "eval mode", marker: { symbol: "diamond-open", size: 10, color: theme.second, line: { width: 2.5 } } },
      ],
      layout: { height: 120 + 34 * labels.length, hovermode: "closest", showlegend: true, xaxis: { title: "probability", range: [0, 1.02] }, yaxis: { autorange: "reversed", type: "category" } },
    })),
  };
}

/** Two parts of one whole, as a bar and in numbers. */
function parts(title, whole_, [firstName, first, firstWhy], [otherName, other, otherWhy], size, unit) {
  const total = size(first) + size(other);
  const share = total > 0 ? size(first) / total : 0;
  const bar = element("div", { class: "split", role: "img", "aria-label": `${percent(share)} ${firstName}, ${percent(1 - share)} ${otherName}` }, element("span", { class: "first" }), element("span", { class: "other" }));
  bar.children[0].style.flexGrow = share;
  bar.children[1].style.flexGrow = 1 - share;
  const entry = (kind, name, value, part, why) => element("p", { class: "hint" }, element("span", { class: `key ${kind}` }), element("strong", {}, term(name), ` ${number(value)}`), ` ${unit}, ${percent(part)} of the ${whole_}: `, why);
  return element("div", {}, element("h3", {}, title), bar, entry("first", firstName, first, share, firstWhy), entry("other", otherName, other, 1 - share, otherWhy));
}

const definitions = (entries) => element("dl", { class: "facts" }, entries.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))));
