// One feature over its range and beyond, all else as in the form: where the band opens.

import { call, clearProblem, showProblem } from "./api.js";
import { element, field, option } from "./dom.js";
import { draw, figure, SERIES } from "./plot.js";
import { term } from "./terms.js";
import { listed, number, percent, shortened, whole } from "./text.js";

const POINTS = 61;
// Beyond the training range, on each side, as a share of it.
const BEYOND = 0.5;
const MOST_LINES = 6;

export class Sweep {
  constructor(choice, readRow, form) {
    this.choice = choice;
    this.readRow = readRow;
    this.form = form;
    const features = choice.card.features;
    this.select = element("select", { onchange: () => this.draw() }, features.map((feature) => option(feature.name)));
    const widest = features.find((feature) => feature.type === "number");
    if (widest) this.select.value = widest.name;
    this.figure = figure("Answers while one feature changes");
    this.error = element("div");
    this.words = element("p", { class: "sweep-words" });
    this.node = element("div", {}, field("Feature", this.select), this.error, this.figure.node, this.words);
  }

  async draw() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    const { card, address } = this.choice;
    const feature = card.features.find((one) => one.name === this.select.value);
    const at = feature.type === "number" ? numbersFor(feature) : feature.categories;
    const row = this.readRow();
    const instances = at.map((value) => ({ ...row, [feature.name]: value }));
    try {
      clearProblem(this.error);
      const answer = await call("POST", `${address}:uncertainty`, { json: { instances }, signal: request.signal });
      const rug = (card.report?.excerpt ?? []).map((one) => one[card.features.indexOf(feature)]).filter((value) => value !== null);
      const found = { card, feature, at, rows: answer.predictions, rug, now: row[feature.name] };
      await draw(this.figure.plot, (theme) => plotOf(found, theme));
      // Another feature may have been chosen while plotly was loaded.
      if (request.signal.aborted) return;
      this.figure.plot.setAttribute("aria-label", `${card.target} as ${feature.name} changes`);
      this.figure.caption.textContent = caption(found);
      this.words.replaceChildren(...(feature.type === "number" ? inWords(found) : []));
    } catch (error) {
      // What is wrong with the row is shown at the form.
      if (error.status !== 422) showProblem(this.error, error);
    }
  }
}

/** The training range and beyond, but not below 0 where training never was. */
function numbersFor({ minimum, maximum }) {
  const width = maximum - minimum || Math.abs(maximum) || 1;
  const [least, to] = [minimum - BEYOND * width, maximum + BEYOND * width];
  const from = minimum >= 0 ? Math.max(0, least) : least;
  return Array.from({ length: POINTS }, (_, i) => from + ((to - from) * i) / (POINTS - 1));
}

function plotOf(found, theme) {
  const { card, feature, at, rows, rug, now } = found;
  const isNumber = feature.type === "number";
  const lines = card.task === "regression" ? regressionLines(found, theme) : classLines(found, theme);
  const shapes = isNumber
    ? [feature.minimum, feature.maximum].map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: theme.muted, dash: "dot", width: 1 } }))
    : [];
  if (isNumber && now !== null) shapes.push({ type: "line", x0: now, x1: now, yref: "paper", y0: 0.12, y1: 1, line: { color: theme.second, width: 1.5 } });
  if (isNumber && rug.length) {
    lines.push({ x: rug, y: rug.map(() => 0), yaxis: "y2", mode: "markers", name: `${whole(rug.length)} training rows`, hoverinfo: "x", marker: { symbol: "line-ns-open", size: 10, color: theme.text, opacity: 0.55, line: { width: 1 } } });
  }
  return {
    traces: lines,
    layout: {
      height: 380, shapes, hovermode: "x unified", xaxis: { title: shortened(feature.name, 40), ...(isNumber ? { range: [at[0], at.at(-1)], anchor: "y2" } : { type: "category" }) },
      yaxis: { domain: [isNumber ? 0.12 : 0, 1], title: card.task === "regression" ? shortened(card.target, 30) : "probability", ...(card.task === "classification" && { range: [0, 1.02] }) },
      yaxis2: { domain: [0, 0.08], visible: false, range: [-1, 1] },
    },
  };
}

function band(at, low, high, name, fill, group) {
  return [
    { x: at, y: low, mode: "lines", line: { width: 0 }, showlegend: false, hoverinfo: "skip", legendgroup: group },
    { x: at, y: high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: fill, name, hoverinfo: "skip", legendgroup: group },
  ];
}

function regressionLines({ feature, at, rows }, theme) {
  const means = rows.map((row) => row.mean);
  const coverage = percent(rows[0].interval.coverage);
  if (feature.type !== "number") {
    return [{ x: at, y: means, mode: "markers", name: `mean, ${coverage} interval`, marker: { color: theme.accent, size: 9 },
      error_y: { type: "data", symmetric: false, array: rows.map((row) => row.interval.upper - row.mean), arrayminus: rows.map((row) => row.mean - row.interval.lower), color: theme.accent } }];
  }
  return [
    ...band(at, rows.map((row) => row.interval.lower), rows.map((row) => row.interval.upper), `${coverage} interval`, theme["band-2"], "interval"),
    ...band(at, rows.map((row) => row.mean - 2 * row.epistemic_std), rows.map((row) => row.mean + 2 * row.epistemic_std), "± 2 epistemic std", theme.band, "epistemic"),
    { x: at, y: means, mode: "lines", name: "mean", line: { color: theme.accent, width: 2.5 } },
    { x: at, y: rows.map((row) => row.value), mode: "lines", name: "eval mode", line: { color: theme.second, width: 1.5, dash: "dash" } },
  ];
}

function classLines({ card, feature, at, rows }) {
  const peak = (label) => Math.max(...rows.map((row) => row.probabilities[label]));
  const labels = [...card.labels].sort((a, b) => peak(b) - peak(a)).slice(0, MOST_LINES);
  return labels.flatMap((label, i) => {
    const colour = SERIES[card.labels.indexOf(label) % SERIES.length];
    const means = rows.map((row) => row.probabilities[label]);
    const spread = rows.map((row) => row.std[label]);
    if (feature.type !== "number") {
      return [{ x: at, y: means, mode: "markers", name: label, marker: { color: colour, size: 9 }, error_y: { type: "data", array: spread, color: colour } }];
    }
    return [
      ...band(at, means.map((mean, k) => Math.max(0, mean - spread[k])), means.map((mean, k) => Math.min(1, mean + spread[k])), `${label} ± std`, `${colour}38`, label).map((trace) => ({ ...trace, showlegend: false })),
      { x: at, y: means, mode: "lines", name: label, legendgroup: label, line: { color: colour, width: 2.5, dash: card.labels.indexOf(label) < 5 ? "solid" : "dash" } },
    ];
  });
}

function caption({ card, feature, at, rug, now }) {
  const rest = "All other features are as in the form.";
  if (feature.type !== "number") return rest;
  const ticks = rug.length ? " Ticks below: training rows." : " This version kept no training rows to show.";
  const classes = card.task === "classification" && card.labels.length > MOST_LINES ? ` The ${MOST_LINES} classes that are most probable somewhere are drawn.` : "";
  const isSeen = now !== null && now >= at[0] && now <= at.at(-1);
  const row = isSeen ? "orange: the row in the form" : now === null ? "the row in the form has no value" : `the row in the form, at ${number(now)}, lies outside the picture`;
  return `Dotted: the ends of the training range, beyond which no coverage is promised; ${row}. ${rest}${ticks}${classes}`;
}

/** The band inside the training range and at the ends of the sweep, in numbers. */
function inWords({ card, feature, at, rows }) {
  const doubt = (row) => (card.task === "regression" ? row.epistemic_std : row.mutual_information);
  const inside = rows.filter((_, i) => at[i] >= feature.minimum && at[i] <= feature.maximum).map(doubt).sort((a, b) => a - b);
  const middle = inside[Math.floor(inside.length / 2)];
  const name = card.task === "regression" ? [term("epistemic", "Epistemic"), " std"] : [term("mutual information", "Mutual information"), " (nats)"];
  const ends = [0, at.length - 1].filter((i) => at[i] < feature.minimum || at[i] > feature.maximum);
  const outside = listed(ends.map((i) => `${number(doubt(rows[i]))} at ${number(at[i])}`));
  return [...name, `: ${number(middle)} inside the training range (median), ${outside}, where there are no data.`];
}
