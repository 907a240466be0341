// What the circles and lines of the network picture mean, drawn as they are drawn there.

import { drawing, element } from "./dom.js";

/** For that kind of dropout. */
export function networkKey(kind, mode) {
  const entries = [
    [unit("fill", 1), "positive value"],
    [unit("fill negative", 1), "negative value"],
    [unit("fill", 0.25), "paler: closer to 0, within its layer"],
    [unit(), "0"],
    [line("link"), "positive weight; wider: stronger"],
    [line("link negative"), "negative weight"],
  ];
  if (mode === "train" && kind === "dropconnect") entries.push([line("link dropped"), "dropped weight"]);
  else if (mode === "train" && kind !== "gaussian") entries.push([struck(), "dropped unit"]);
  return element("ul", { class: "network-key", "aria-label": "Key to the picture" }, entries.map(([sign, text]) => element("li", {}, sign, text)));
}

const sign = (...parts) => drawing("svg", { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true" }, parts);
const circle = (r, attributes) => drawing("circle", { cx: 10, cy: 10, r, ...attributes });
const unit = (kind = null, opacity = 1) =>
  sign(drawing("g", { class: "unit" }, circle(8, { class: "body" }), kind ? circle(6.5, { class: kind, "fill-opacity": opacity }) : null));
const struck = () =>
  sign(drawing("g", { class: "unit dropped" }, circle(8, { class: "body" }), drawing("path", { d: "M2.4 2.4L17.6 17.6M17.6 2.4L2.4 17.6", class: "strike" })));
const line = (kind) => sign(drawing("line", { x1: 0, y1: 10, x2: 20, y2: 10, class: kind, "stroke-width": 2 }));
