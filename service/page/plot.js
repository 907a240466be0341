// Plots by plotly.js, loaded when the first one is due, in the page's colours.

import { element } from "./dom.js";
import { separators } from "./text.js";

// Styles that plotly would write into the document, which the page's policy forbids; parts.css
// has what is needed of them. An element of that name tells plotly to leave it at that.
const STYLES = ["plotly.js-style-global", "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();
let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(...STYLES.map((id) => element("template", { id, class: "no-inline-styles" })));
    const script = element("script", { src: document.body.dataset.plotly });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error("the plots cannot be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

/** The colours of the theme in use. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "muted", "line", "accent", "second", "good", "bad", "surface", "band", "band-2"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** A line of so many different colours, legible on either theme. */
export const SERIES = ["#3b82f6", "#e8743b", "#22a06b", "#b45ad6", "#d43d6c", "#0e9aa7", "#9a7b0a", "#6b7cff", "#7a5c3e", "#7f8a99"];

/** A figure to be drawn in, with a caption that says it in words. */
export function figure(name) {
  const plot = element("div", { class: "plot", role: "img", "aria-label": name });
  const caption = element("figcaption");
  return { node: element("figure", {}, plot, caption), plot, caption };
}

/** Draws; `build(colours)` gives traces and layout, and is asked again when the theme changes. */
export async function draw(plot, build) {
  drawn.set(plot, build);
  const Plotly = await load();
  const latest = drawn.get(plot);
  if (!latest || !plot.isConnected) return;
  const theme = colours();
  const { traces, layout } = latest(theme);
  // On large screens with the type around it.
  const size = Math.max(12, 0.8 * parseFloat(getComputedStyle(document.documentElement).fontSize));
  const axis = {
    gridcolor: theme.line, linecolor: theme.line, zerolinecolor: theme.line, automargin: true,
    fixedrange: true, title: { standoff: 8 },
  };
  const whole = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: theme.text, family: "system-ui, sans-serif", size },
    margin: { l: 48, r: 12, t: 12, b: 40 }, separators: separators(), hovermode: "x unified",
    hoverlabel: { bgcolor: theme.surface, bordercolor: theme.line, font: { color: theme.text } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, dragmode: false,
    ...layout, height: Math.round((layout.height * size) / 12),
  };
  for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((k) => /^[xy]axis/.test(k))])) {
    const given = layout[name] ?? {};
    const title = typeof given.title === "string" ? { text: given.title, standoff: 8 } : given.title;
    whole[name] = { ...axis, ...given, ...(title && { title }) };
  }
  await Plotly.react(plot, traces, whole, { displayModeBar: false, responsive: true });
}

DARK.addEventListener("change", () => {
  for (const [plot, build] of drawn) {
    if (plot.isConnected) draw(plot, build);
    else drawn.delete(plot);
  }
});
