// The network as a picture: units, links as wide as their weights are large, what is dropped
// struck out. Which units are drawn the service says; here they are only laid out.

import { drawing } from "./dom.js";
import { number, shortened, whole } from "./text.js";

const ROW = 27;
const TOP = 40;
const LEAST_LINK = 0.06;

/** Draws into that place; says in words what is to be seen. */
export function drawNetwork(place, look, { mode, unit, choose, answers }) {
  const hadFocus = place.contains(document.activeElement);
  const { layers, links } = look.network;
  // On large screens it grows with the type around it.
  const scale = Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / 15);
  const width = Math.max(280, place.clientWidth / scale);
  const label = Math.min(170, Math.max(64, width * 0.2));
  const most = Math.max(...layers.map((layer) => layer.shown.length));
  const height = TOP + most * ROW + 8;
  const x = (i) => label + ((width - 2 * label) * i) / (layers.length - 1);
  const y = (layer, k) => TOP + ((most - layer.shown.length) * ROW) / 2 + (k + 0.5) * ROW;
  const states = layers.map((_, i) => stateOf(look, i, mode));
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", class: mode });
  svg.append(drawing("title", {}, describe(look, mode, states)));
  links.forEach((weights, i) => svg.append(drawLinks(weights, (k) => [x(i), y(layers[i], k)], (k) => [x(i + 1), y(layers[i + 1], k)], states[i], states[i + 1])));
  layers.forEach((layer, i) => {
    svg.append(heading(layer, x(i), x(1) - x(0)));
    layer.shown.forEach((at, k) => svg.append(drawUnit(layer, at, k, x(i), y(layer, k), states[i], { i, count: layers.length, label, unit, choose, answers })));
  });
  move(svg);
  place.replaceChildren(svg);
  if (hadFocus) svg.querySelector("[tabindex='0']")?.focus();
  return { summary: summarise(layers), spoken: describe(look, mode, states) };
}

/** What there is to show of a drawn layer: activations, what is dropped, and where it stands in
 * the answer's own list. */
function stateOf(look, i, mode) {
  const byWeights = look.layers.some((layer) => Array.isArray(layer.mask[0]));
  const offset = look.network.layers.length - (byWeights ? 0 : 1) - look.layers.length;
  const at = i - offset;
  const layer = look.layers[at];
  if (!layer) return { at: null, values: look.network.layers[i].values ?? null, dropped: [], mask: null };
  const isEval = mode === "eval";
  const values = isEval ? layer.eval_activations : layer.masked_activations;
  if (isEval || layer.p === 0) return { at, values, dropped: [], mask: null };
  const isDropped = (factor) => layer.kind !== "gaussian" && factor <= 0.5;
  if (byWeights) return { at, values, dropped: [], mask: layer.mask.map((row) => row.map(isDropped)) };
  return { at, values, dropped: layer.mask.map(isDropped), mask: null };
}

function drawLinks(weights, from, to, before, after) {
  const largest = Math.max(1e-12, ...weights.flat().map(Math.abs));
  const group = drawing("g", { class: "links", "aria-hidden": "true" });
  weights.forEach((row, j) =>
    row.forEach((weight, k) => {
      const strength = Math.abs(weight) / largest;
      const isCut = before.dropped[k] || after.dropped[j];
      const isDropped = after.mask?.[j]?.[k] ?? false;
      if (isCut || (strength < LEAST_LINK && !isDropped)) return;
      const [x1, y1] = from(k);
      const [x2, y2] = to(j);
      group.append(
        drawing("line", {
          x1, y1, x2, y2, class: isDropped ? "link dropped" : weight < 0 ? "link negative" : "link",
          "stroke-width": isDropped ? 1 : (0.3 + 2.9 * strength).toFixed(2), "stroke-opacity": isDropped ? 0.9 : (0.12 + 0.7 * strength).toFixed(2),
        }),
      );
    }),
  );
  return group;
}

function heading(layer, x, space) {
  const isNarrow = space < 66;
  const total = space < 60 && layer.units >= 1000 ? `${number(layer.units / 1000, 2)}k` : whole(layer.units);
  const size = layer.shown.length < layer.units ? isNarrow ? `${layer.shown.length}/${total}` : `${layer.shown.length} of ${whole(layer.units)}` : whole(layer.units);
  return drawing(
    "g",
    { class: "heading" },
    drawing("text", { x, y: 14, "text-anchor": "middle" }, isNarrow ? layer.name.replace("hidden ", "h") : layer.name),
    drawing("text", { x, y: 29, "text-anchor": "middle", class: "size" }, size),
  );
}

function drawUnit(layer, at, k, x, y, state, { i, count, label, unit, choose, answers }) {
  const radius = 8;
  const isDropped = Boolean(state.dropped[k]);
  const largest = Math.max(1e-12, ...(state.values ?? []).map(Math.abs));
  const value = state.values?.[k] ?? null;
  const isChosen = unit.layer === state.at && unit.at === k;
  const canChoose = state.at !== null;
  const parts = [drawing("circle", { cx: x, cy: y, r: radius, class: "body" })];
  if (value !== null && !isDropped) {
    parts.push(drawing("circle", { cx: x, cy: y, r: radius - 1.5, class: value < 0 ? "fill negative" : "fill", "fill-opacity": (Math.abs(value) / largest).toFixed(3) }));
  }
  if (isDropped) {
    const d = radius * 0.95;
    parts.push(drawing("path", { d: `M${x - d} ${y - d}L${x + d} ${y + d}M${x + d} ${y - d}L${x - d} ${y + d}`, class: "strike" }));
  }
  if (isChosen) parts.push(drawing("circle", { cx: x, cy: y, r: radius + 4, class: "ring" }));
  const name = layer.labels?.[k];
  if (name !== undefined && (i === 0 || i === count - 1)) {
    const most = Math.max(4, Math.floor((label - 20) / 6.6));
    const attributes = i === 0 ? { x: x - radius - 6, "text-anchor": "end" } : { x: x + radius + 6, "text-anchor": "start" };
    const answer = i === count - 1 ? answers(name) : null;
    parts.push(drawing("text", { y: answer === null ? y + 4 : y - 1, class: "name", ...attributes }, shortened(name, most), drawing("title", {}, name)));
    if (answer !== null) parts.push(drawing("text", { y: y + 12, class: "answer", ...attributes }, number(answer)));
  }
  const said = `${layer.name}, ${name ?? `unit ${at + 1}`}${value === null ? "" : isDropped ? ", dropped" : `, ${number(value)}`}`;
  const attributes = canChoose
    ? { role: "button", tabindex: isChosen ? 0 : -1, "aria-pressed": String(isChosen), "aria-label": said, "data-column": i, "data-row": k,
        onclick: () => choose({ layer: state.at, at: k }),
        onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), choose({ layer: state.at, at: k })) }
    : {};
  return drawing("g", { class: `unit${isDropped ? " dropped" : ""}${canChoose ? " choosable" : ""}`, ...attributes }, parts);
}

/** Arrow keys go from unit to unit, choosing as they go. */
function move(svg) {
  const units = [...svg.querySelectorAll("[data-column]")];
  if (units.length && !units.some((unit) => unit.getAttribute("tabindex") === "0")) units[0].setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    const step = steps[event.key];
    const from = event.target.closest?.("[data-column]");
    if (!step || !from) return;
    event.preventDefault();
    const column = Number(from.dataset.column) + step[0];
    const inColumn = units.filter((unit) => Number(unit.dataset.column) === column);
    if (!inColumn.length) return;
    const row = Math.min(inColumn.length - 1, Math.max(0, Number(from.dataset.row) + step[1]));
    inColumn[row].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  });
}

function summarise(layers) {
  const cut = layers.filter((layer) => layer.shown.length < layer.units);
  const lines = "The weakest weights are left out.";
  if (!cut.length) return `All units are drawn. ${lines}`;
  const largest = Math.max(...cut.map((layer) => layer.shown.length));
  return `Too large to draw whole: of each large layer ${largest} units are drawn, spread evenly over it. All figures are of the whole network. ${lines}`;
}

function describe(look, mode, states) {
  if (mode === "eval") return "Eval mode: no unit is dropped.";
  const ofWeights = states.flatMap((state) => state.mask?.flat() ?? []);
  const ofUnits = states.flatMap((state) => state.dropped);
  const [flags, what] = ofWeights.length ? [ofWeights, "weights"] : [ofUnits, "units"];
  if (!flags.length) return "Units are multiplied by random numbers; none is dropped.";
  return `${flags.filter(Boolean).length} of the ${flags.length} ${what} drawn are dropped.`;
}
