// What a version's figures are of: calibration, coverage, risk, errors, and how many samples
// Monte Carlo averaging needs to catch up with weight scaling.

import { call, clearProblem, showProblem } from "./api.js";
import { choose, refresh } from "./chooser.js";
import { announce, element } from "./dom.js";
import { draw, figure } from "./plot.js";
import { term } from "./terms.js";
import { number, percent, whole } from "./text.js";

/** Appends the report; `result` is that of the job, if there was one just now. */
export function showReport(place, card, result = null) {
  const { report, metrics } = card;
  const plots = report?.calibration ? [calibration(card), coverage(card), risk(card), errors(card), samples(card)].filter(Boolean) : [];
  const rows = metrics.rows;
  place.append(
    element(
      "div", { class: "card" },
      element("h2", {}, `${card.model}, version ${card.version}: what came of it`),
      fate(card, result),
      element("p", { class: "hint" }, `${whole(rows.training)} rows trained, ${whole(rows.validation)} chose the epoch, ${whole(rows.calibration)} calibrated. ${report?.rows ? `The curves are of ${whole(report.rows)} rows that the network judging them had not seen.` : ""}`),
      facts(card),
    ),
    element("div", { class: "columns" }, plots.map((plot) => element("div", { class: "card" }, element("h3", {}, plot.title), plot.node))),
    ...(plots.length ? [] : [element("p", { class: "empty" }, "This version was made before reports were kept: its metrics are all there is.")]),
  );
  for (const plot of plots) plot.draw?.();
}

function fate(card, result) {
  const place = element("div");
  const error = element("div");
  const text = element("p", { role: "status" });
  const open = element("button", { onclick: () => go("ask") }, "Ask it");
  const play = element("button", { onclick: () => go("play") }, "Play with it");
  const promote = element("button", { class: "primary", onclick: doPromote }, "Promote to production");
  const show = (isLive, why) => {
    text.textContent = isLive ? `Version ${card.version} is in production: it answers when ${card.model} is asked${why}.` : `Version ${card.version} is not in production${why}.`;
    promote.hidden = isLive;
  };
  async function doPromote() {
    clearProblem(error);
    try {
      await call("PUT", `/v1/models/${card.model}/aliases/production`, { json: { version: card.version } });
      show(true, "");
      announce(`Version ${card.version} is in production.`);
      await refresh();
    } catch (problem) {
      showProblem(error, problem);
    }
  }
  async function go(part) {
    await choose(card.model, card.version);
    location.hash = `#/${part}`;
  }
  if (result) show(result.promoted, ` (${result.promotion})`);
  else {
    text.textContent = "";
    promote.hidden = true;
  }
  place.append(text, element("div", { class: "actions" }, promote, open, play), error);
  return place;
}

function facts(card) {
  const { eval_mode: evaluated, mc_mode: sampled } = card.metrics;
  const isClass = card.task === "classification";
  const names = isClass
    ? [["Accuracy", "accuracy", percent], ["NLL", "nll", number], ["Brier", "brier", number], ["ECE", "ece", number], ["AURC", "aurc", number]]
    : [["RMSE", "rmse", number], ["R²", "r2", number], ["NLL", "nll", number], ["CRPS", "crps", number], ["ECE", "ece", number], ["AURC", "aurc", number]];
  const head = element("tr", {}, [["On the ", term("calibration rows")], "eval mode", "MC mode"].map((text, i) => element("th", { scope: "col", class: i ? "figure" : "" }, text)));
  const body = names.map(([text, key, format]) => element("tr", {}, element("th", { scope: "row" }, term(text)), element("td", { class: "figure" }, format(evaluated[key])), element("td", { class: "figure" }, format(sampled[key]))));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Metrics" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body)));
}

/** One plot of the report: its title, its figure with a caption, and how to draw it. */
function plot(title, caption, build) {
  const shape = figure(title);
  shape.caption.textContent = caption;
  return { title, node: shape.node, draw: () => draw(shape.plot, build).catch((error) => (shape.caption.textContent = error.message)) };
}

const diagonal = (theme, to = 1) => ({ x: [0, to], y: [0, to], mode: "lines", name: "ideal", line: { color: theme.muted, dash: "dot", width: 1.5 } });

function calibration({ task, report }) {
  const points = report.calibration;
  const isClass = task === "classification";
  const [x, y] = isClass ? ["confidence", "accuracy"] : ["level", "observed"];
  const caption = isClass
    ? "When the network is so sure of its label, how often is it right? Larger dots: more rows. On the dotted line it is as sure as it should be."
    : "How often does the truth lie below the model's own quantile of a level? On the dotted line as often as it should.";
  return plot("Calibration", caption, (theme) => ({
    traces: [
      diagonal(theme),
      { x: points.map((p) => p[x]), y: points.map((p) => p[y]), mode: "lines+markers", name: "measured", line: { color: theme.accent }, marker: { size: isClass ? points.map((p) => 5 + 18 * Math.sqrt(p.rows / report.rows)) : 6 } },
    ],
    layout: { height: 300, showlegend: false, hovermode: "closest", xaxis: { title: isClass ? "confidence" : "quantile's level", range: [0, 1.02] }, yaxis: { title: isClass ? "accuracy" : "share of rows below it", range: [0, 1.02] } },
  }));
}

function coverage({ task, report }) {
  const points = report.coverage.filter((point) => point.coverage !== null);
  const what = task === "classification" ? "prediction set" : "interval";
  const least = task === "classification" ? " Sets always hold the most probable label, so a good classifier's cover more than they say." : "";
  return plot("Coverage against nominal", `How often the ${what} contains the truth, for each coverage asked for; each row is judged by others.${least}`, (theme) => ({
    traces: [diagonal(theme), { x: points.map((p) => p.nominal), y: points.map((p) => p.coverage), mode: "lines+markers", name: "measured", line: { color: theme.accent } }],
    layout: { height: 300, showlegend: false, hovermode: "closest", xaxis: { title: "coverage asked for", range: [0, 1.02] }, yaxis: { title: "coverage measured", range: [0, 1.02] } },
  }));
}

function risk({ task, report }) {
  const points = report.risk_coverage;
  const what = task === "classification" ? "share of wrong labels" : "mean absolute error";
  return plot("Risk and coverage", `The ${what} if only the least uncertain share of the rows is answered. Falling to the left: uncertainty knows where the errors are.`, (theme) => ({
    traces: [{ x: points.map((p) => p.accepted), y: points.map((p) => p.risk), mode: "lines", fill: "tozeroy", fillcolor: theme["band-2"], line: { color: theme.accent, width: 2 } }],
    layout: { height: 300, showlegend: false, xaxis: { title: "share of rows answered", range: [0, 1.02] }, yaxis: { title: what, rangemode: "tozero" } },
  }));
}

function errors(card) {
  if (card.report.confusion) return confusion(card);
  if (!card.report.residuals) return null;
  const { prediction, truth } = card.report.residuals;
  const [low, high] = [Math.min(...truth, ...prediction), Math.max(...truth, ...prediction)];
  return plot("Predictions and residuals", `Each dot a held-out row${truth.length < card.report.rows ? ` (${whole(truth.length)} of ${whole(card.report.rows)})` : ""}: how far the truth lies from the prediction. On the dotted line the prediction was right.`, (theme) => ({
    traces: [
      { x: [low, high], y: [0, 0], mode: "lines", line: { color: theme.muted, dash: "dot", width: 1.5 }, hoverinfo: "skip" },
      { x: prediction, y: truth.map((value, i) => value - prediction[i]), mode: "markers", marker: { color: theme.accent, size: 5, opacity: 0.6 } },
    ],
    layout: { height: 300, showlegend: false, hovermode: "closest", xaxis: { title: `predicted ${card.target}` }, yaxis: { title: "truth − prediction" } },
  }));
}

function confusion(card) {
  const { labels, counts } = card.report.confusion;
  const table = labels.length <= 6 ? countTable(labels, counts) : null;
  if (table) return { title: "Confusion", node: table };
  return plot("Confusion", "Rows: the truth; columns: what was predicted; the darker, the more rows.", (theme) => ({
    traces: [{ type: "heatmap", z: counts, x: labels, y: labels, colorscale: [[0, theme.surface], [1, theme.accent]], showscale: false, xgap: 1, ygap: 1, hovertemplate: "truth %{y}, predicted %{x}: %{z}<extra></extra>" }],
    layout: { height: 360, hovermode: "closest", xaxis: { title: "predicted", type: "category" }, yaxis: { title: "truth", type: "category", autorange: "reversed" } },
  }));
}

function countTable(labels, counts) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Truth"), labels.map((label) => element("th", { scope: "col" }, element("small", {}, "predicted "), label)));
  const body = counts.map((row, i) => element("tr", {}, element("th", { scope: "row" }, labels[i]), row.map((count, j) => element("td", { class: i === j ? "best" : "" }, whole(count)))));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" }, element("table", { class: "confusion" }, element("caption", {}, "Held-out rows"), element("thead", {}, head), element("tbody", {}, body)));
}

function samples({ task, metrics, report }) {
  const curve = metrics.sampling_curve;
  if (!curve || !report.weight_scaling) return null;
  const key = task === "classification" ? "nll" : "rmse";
  const name = task === "classification" ? "NLL (nats)" : "RMSE";
  const scaled = report.weight_scaling[key];
  const met = curve.find((point) => point[key] <= scaled);
  const words = met ? `From ${whole(met.n_samples)} samples on averaging is at least as good.` : `Up to ${whole(curve.at(-1).n_samples)} samples weight scaling stays ahead.`;
  return plot("Weight scaling and Monte Carlo averaging", `Error of the mean over T thinned networks, against eval mode's single pass on the same rows (as in Srivastava et al. 2014, section 7.5). ${words}`, (theme) => ({
    traces: [
      { x: curve.map((p) => p.n_samples), y: curve.map((p) => p[key]), mode: "lines+markers", name: "Monte Carlo averaging", line: { color: theme.accent } },
      { x: [curve[0].n_samples, curve.at(-1).n_samples], y: [scaled, scaled], mode: "lines", name: "weight scaling (eval mode)", line: { color: theme.second, dash: "dash" } },
    ],
    layout: { height: 300, hovermode: "closest", xaxis: { title: "samples T", type: "log", tickvals: curve.map((p) => p.n_samples) }, yaxis: { title: name } },
  }));
}
