// The model and the version that Play and Ask speak to, chosen at the top of both.

import { all, call, showProblem } from "./api.js";
import { element, option } from "./dom.js";
import { listed, percent } from "./text.js";

const PAUSE = 2000;
const listeners = new Set();
let models = [];
let chosen = null;
let looking = null;

/** Calls with what is chosen, now if there is something, and whenever that changes. */
export function onChoice(listener) {
  listeners.add(listener);
  if (chosen) listener(chosen);
  else looking ??= look();
}

/** Looks again at what there is, as after training or promoting. */
export async function refresh() {
  if (!chosen) return;
  models = await all("/v1/models", "model");
  const model = models.find((one) => one.model === chosen?.model);
  const production = model?.aliases.production ?? null;
  const isThere = model?.versions.some((card) => card.version === (chosen.version ?? production));
  if (isThere && chosen.card.version === (chosen.version ?? production)) return show(chosen.model, chosen.version);
  if (isThere) return pick(chosen.model, null);
  // It was deleted.
  chosen = null;
  looking = look();
}

/** Chooses that model from outside. */
export async function choose(model, version = null) {
  models = await all("/v1/models", "model");
  await pick(model, version);
}

async function look() {
  const place = document.getElementById("chooser");
  try {
    for (;;) {
      models = await all("/v1/models", "model");
      if (models.length) break;
      await tellOfNone(place);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    // A number is easier to watch than a probability.
    const ready = models.filter((model) => model.aliases.production);
    const usable = ready.find((model) => model.task === "regression") ?? ready[0] ?? models[0];
    await pick(usable.model, null);
  } catch (error) {
    looking = null;
    showProblem(place, error);
    place.append(element("button", { onclick: () => (looking ??= look()) }, "Try again"));
  }
}

async function tellOfNone(place) {
  const jobs = (await call("GET", "/v1/training_jobs?limit=20")).data;
  const active = jobs.filter((job) => job.status === "running" || job.status === "queued");
  const states = active.map((job) => {
    const share = job.progress ? percent(job.progress.fraction) : job.status === "running" ? "starting" : "next";
    return `${job.model} (${share})`;
  });
  const text = active.length
    ? `Training ${listed(states)}. This page goes on by itself when the first one is ready.`
    : "There is no model yet.";
  place.replaceChildren(
    element("p", { class: "empty", role: "status" }, text, " ", element("a", { href: "#/train" }, "Train one on your own file")),
  );
}

async function pick(name, version) {
  const model = models.find((one) => one.model === name);
  const production = model.aliases.production ?? null;
  const number = version ?? production ?? model.versions[0].version;
  const card = await call("GET", `/v1/models/${name}/versions/${number}`);
  const isPlain = version === null && production !== null;
  chosen = { model: name, version: isPlain ? null : number, card, address: address(name, isPlain ? null : number) };
  show(name, chosen.version);
  for (const listener of listeners) listener(chosen);
}

const address = (name, version) => `/v1/models/${name}${version === null ? "" : `/versions/${version}`}`;

function show(name, version) {
  const place = document.getElementById("chooser");
  const model = models.find((one) => one.model === name);
  const production = model.aliases.production;
  const names = element(
    "select",
    { id: "model-choice", onchange: () => change(place, names.value, null) },
    models.map((one) => option(one.model, one.model, one.model === name)),
  );
  const versions = element(
    "select",
    { id: "version-choice", onchange: () => change(place, name, versions.value ? Number(versions.value) : null) },
    production ? option("", `production (version ${production})`, version === null) : null,
    model.versions.map((card) => option(card.version, `version ${card.version}`, card.version === version)),
  );
  const card = model.versions.find((one) => one.version === (version ?? production));
  place.replaceChildren(
    element("div", { class: "field" }, element("label", { for: "model-choice" }, "Model"), names),
    element("div", { class: "field" }, element("label", { for: "version-choice" }, "Version"), versions),
    element("p", { class: "hint" }, card ? describe(card) : ""),
  );
}

async function change(place, name, version) {
  try {
    await pick(name, version);
    document.getElementById(version === null ? "model-choice" : "version-choice").focus();
  } catch (error) {
    showProblem(place.appendChild(element("div")), error);
  }
}

function describe(card) {
  const what = card.task === "regression" ? `predicts the number ${card.target}` : `tells ${card.labels?.length ?? ""} classes of ${card.target} apart`;
  return `${what} from ${card.features.length} ${card.features.length === 1 ? "feature" : "features"}`;
}

/** A row to begin with: a real one if the version has some, else an ordinary one. */
export function startingRow(card, number = 0) {
  const rows = card.report?.excerpt ?? [];
  if (rows.length) {
    const row = rows[number % rows.length];
    return Object.fromEntries(card.features.map((feature, i) => [feature.name, row[i]]));
  }
  return Object.fromEntries(
    card.features.map((feature) => [feature.name, feature.type === "number" ? Number(feature.mean.toPrecision(4)) : feature.categories[0]]),
  );
}
