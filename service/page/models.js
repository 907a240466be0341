// Models: what there is, how versions compare, which one answers, and how to change that.

import { all, call, clearProblem, showProblem } from "./api.js";
import { choose, refresh } from "./chooser.js";
import { announce, element } from "./dom.js";
import { showReport } from "./report.js";
import { number, percent, time, whole } from "./text.js";

const METRICS = {
  regression: [["RMSE", "rmse", number, -1], ["NLL", "nll", number, -1], ["CRPS", "crps", number, -1], ["Calibration error", "ece", number, -1], ["AURC", "aurc", number, -1]],
  classification: [["Accuracy", "accuracy", percent, 1], ["NLL", "nll", number, -1], ["Brier", "brier", number, -1], ["ECE", "ece", number, -1], ["AURC", "aurc", number, -1]],
};

export async function open(place) {
  if (!place.children.length) place.replaceChildren(element("p", { class: "loading", role: "status" }, "Loading …"));
  place.classList.add("stack");
  const models = await all("/v1/models", "model");
  if (!models.length) {
    place.replaceChildren(element("p", { class: "empty" }, "There is no model yet. ", element("a", { href: "#/train" }, "Train one on your own file.")));
    return;
  }
  place.replaceChildren(...models.map((model) => panel(model, place)));
}

function panel(model, place) {
  const error = element("div");
  const report = element("div", { class: "stack" });
  const live = model.aliases.production;
  const measures = METRICS[model.task] ?? [];
  const score = (card, key) => card.metrics.mc_mode?.[key] ?? null;
  const best = Object.fromEntries(measures.map(([, key, , sign]) => [key, Math.max(...model.versions.map((card) => (score(card, key) === null ? -Infinity : sign * score(card, key))))]));
  const aliasesOf = (version) => Object.entries(model.aliases).filter(([, at]) => at === version).map(([alias]) => alias);

  async function promote(version) {
    clearProblem(error);
    try {
      await call("PUT", `/v1/models/${model.model}/aliases/production`, { json: { version } });
      announce(`${model.model}: version ${version} is in production.`);
      await refresh();
      await open(place);
      document.getElementById(`model-${model.model}`)?.focus();
    } catch (problem) {
      showProblem(error, problem);
    }
  }

  async function showCard(version) {
    clearProblem(error);
    try {
      const card = await call("GET", `/v1/models/${model.model}/versions/${version}`);
      report.replaceChildren(element("button", { class: "quiet", onclick: () => report.replaceChildren() }, "Close the report"));
      showReport(report, card);
      report.querySelector("button").focus();
    } catch (problem) {
      showProblem(error, problem);
    }
  }

  async function download(version, button) {
    clearProblem(error);
    button.disabled = true;
    try {
      const blob = await call("GET", `/v1/models/${model.model}/versions/${version}/artifact`);
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: `${model.model}-${version}.zip` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    } catch (problem) {
      showProblem(error, problem);
    } finally {
      button.disabled = false;
    }
  }

  const row = (card) => {
    const isLive = card.version === live;
    const act = live !== undefined && card.version < live ? "Roll back to it" : "Promote";
    const save = element("button", { class: "quiet", "aria-label": `Download version ${card.version} of ${model.model}`, onclick: () => download(card.version, save) }, "Download");
    return element(
      "tr", { class: isLive ? "live" : "" },
      element("th", { scope: "row" }, String(card.version)),
      element("td", {}, aliasesOf(card.version).map((alias) => element("span", { class: alias === "production" ? "chip good" : "chip" }, alias))),
      element("td", {}, `${card.network.hidden.join(" × ")}, ${card.dropout.kind}, p ${[...new Set(card.dropout.p)].map((p) => number(p, 3)).join(", ")}`),
      measures.map(([, key, format, sign]) => element("td", { class: `figure${model.versions.length > 1 && sign * score(card, key) === best[key] ? " best" : ""}` }, format(score(card, key)))),
      element("td", {}, time(card.created_at)),
      element("td", {}, element(
        "div", { class: "actions tight" },
        isLive ? null : element("button", { class: "quiet", "aria-label": `${act}: version ${card.version} of ${model.model}`, onclick: () => promote(card.version) }, act),
        element("button", { class: "quiet", "aria-label": `Report of version ${card.version} of ${model.model}`, onclick: () => showCard(card.version) }, "Report"),
        save,
        element("button", { class: "quiet", "aria-label": `Ask version ${card.version} of ${model.model}`, onclick: async () => (await choose(model.model, isLive ? null : card.version), (location.hash = "#/ask")) }, "Ask"),
      )),
    );
  };
  const heads = [["Version"], ["Aliases"], ["Network"], ...measures.map(([text]) => [text, "figure"]), ["Made"], ["Actions"]];
  return element(
    "div", { class: "card" },
    element("h2", { id: `model-${model.model}`, tabindex: -1 }, model.model),
    element("p", { class: "hint" }, `${model.task} of ${model.versions[0].target} from ${whole(model.versions[0].features.length)} features. Metrics are of each version's own held-out rows, in MC mode${model.versions.length > 1 ? "; the best of each column is green" : ""}.`),
    error,
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Versions of ${model.model}` },
      element("table", {}, element("thead", {}, element("tr", {}, heads.map(([text, kind]) => element("th", { scope: "col", class: kind ?? "" }, text)))), element("tbody", {}, model.versions.map(row)))),
    report,
  );
}
