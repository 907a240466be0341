// Models: what there is, how versions compare, which one answers, and how to change that.

import { all, call, clearProblem, showProblem } from "./api.js";
import { choose, refresh } from "./chooser.js";
import { announce, confirmed, element } from "./dom.js";
import { showReport } from "./report.js";
import { term } from "./terms.js";
import { number, percent, time, whole } from "./text.js";
import { versionUpload } from "./version_upload.js";

const METRICS = {
  regression: [["RMSE", "rmse", number, -1], ["NLL", "nll", number, -1], ["CRPS", "crps", number, -1], ["ECE", "ece", number, -1], ["AURC", "aurc", number, -1]],
  classification: [["Accuracy", "accuracy", percent, 1], ["NLL", "nll", number, -1], ["Brier", "brier", number, -1], ["ECE", "ece", number, -1], ["AURC", "aurc", number, -1]],
};

export async function open(place) {
  if (!place.children.length) place.replaceChildren(element("p", { class: "loading", role: "status" }, "Loading …"));
  place.classList.add("stack");
  const models = await all("/v1/models", "model");
  const form = versionUpload(async ({ model }) => {
    await refresh();
    await open(place);
    document.getElementById(`model-${model}`).focus();
  });
  const none = element("p", { class: "empty" }, "There is no model yet. ", element("a", { href: "#/train" }, "Train one on your own file."));
  place.replaceChildren(...(models.length ? models.map((model) => panel(model, place)) : [none]), form);
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

  async function remove(version) {
    clearProblem(error);
    const consequence = "Its weights, card and report are gone for good, and its number is not used again. Download it first if you may want it back.";
    if (!(await confirmed(`Delete version ${version} of ${model.model}?`, consequence, "Delete"))) return;
    try {
      await call("DELETE", `/v1/models/${model.model}/versions/${version}`);
      announce(`${model.model}: version ${version} is deleted.`);
      await refresh();
      await open(place);
      (document.getElementById(`model-${model.model}`) ?? document.getElementById("content")).focus();
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
    const aliases = aliasesOf(card.version);
    const cell = (head, attributes, ...children) => element("td", { role: "cell", "data-head": head, ...attributes }, children);
    return element(
      "tr", { role: "row", class: isLive ? "live" : "" },
      element("th", { role: "rowheader", scope: "row", "data-head": "Version" }, String(card.version)),
      cell("Aliases", {}, aliases.map((alias) => element("span", { class: alias === "production" ? "chip good" : "chip" }, alias))),
      cell("Network", {}, `${card.network.hidden.join(" × ")}, ${card.dropout.kind}, p ${[...new Set(card.dropout.p)].map((p) => number(p, 3)).join(", ")}`),
      measures.map(([head, key, format, sign]) => cell(head, { class: `figure${model.versions.length > 1 && sign * score(card, key) === best[key] ? " best" : ""}` }, format(score(card, key)))),
      cell("Made", {}, time(card.created_at)),
      cell("Actions", {}, element(
        "div", { class: "actions tight" },
        isLive ? null : element("button", { class: "quiet", "aria-label": `${act}: version ${card.version} of ${model.model}`, onclick: () => promote(card.version) }, act),
        element("button", { class: "quiet", "aria-label": `Report of version ${card.version} of ${model.model}`, onclick: () => showCard(card.version) }, "Report"),
        save,
        element("button", { class: "quiet", "aria-label": `Ask version ${card.version} of ${model.model}`, onclick: async () => (await choose(model.model, isLive ? null : card.version), (location.hash = "#/ask")) }, "Ask"),
        aliases.length ? null : element("button", { class: "quiet danger", "aria-label": `Delete version ${card.version} of ${model.model}`, onclick: () => remove(card.version) }, "Delete"),
      )),
    );
  };
  const heads = [["Version"], [term("alias", "Aliases")], ["Network"], ...measures.map(([text]) => [term(text), "figure"]), ["Made"], ["Actions"]];
  return element(
    "div", { class: "card" },
    element("h2", { id: `model-${model.model}`, tabindex: -1 }, model.model),
    element("p", { class: "hint" }, `${model.task === "regression" ? "Regression" : "Classification"} of ${model.versions[0].target} from ${whole(model.versions[0].features.length)} features. Metrics are of each version's own held-out rows, in MC mode${model.versions.length > 1 ? "; the best of each column is green" : ""}.`),
    error,
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Versions of ${model.model}` },
      element("table", { role: "table", class: "versions" },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, heads.map(([text, kind]) => element("th", { role: "columnheader", scope: "col", class: kind ?? "" }, text)))),
        element("tbody", { role: "rowgroup" }, model.versions.map(row)))),
    report,
  );
}
