// A form for one row, built from a version's features.

import { startingRow } from "./chooser.js";
import { element, field, option } from "./dom.js";
import { number } from "./text.js";

// More features than these can be searched by name.
const MANY = 24;

export class RowForm {
  constructor(card, onSubmit) {
    this.card = card;
    this.controls = new Map();
    this.shown = 0;
    const fields = card.features.map((feature) => this.fieldFor(feature));
    const search = element("input", { type: "search", oninput: () => this.filter(search.value) });
    this.fields = element("div", { class: fields.length > MANY ? "fields many" : "fields" }, fields);
    this.node = element(
      "form", { novalidate: true, onsubmit: (event) => (event.preventDefault(), onSubmit()) },
      fields.length > MANY ? field(`Find one of ${fields.length} features`, search) : null,
      this.fields,
    );
    this.fill(startingRow(card));
  }

  fieldFor(feature) {
    const missing = feature.missing_allowed ? "may be missing" : null;
    let control;
    let hint = missing;
    if (feature.type === "number") {
      control = element("input", { type: "number", step: "any" });
      const range = `${number(feature.minimum)} – ${number(feature.maximum)} in training`;
      hint = missing ? `${range}; empty: missing` : range;
    } else {
      control = element("select", {}, feature.missing_allowed ? option("", "(missing)") : null, feature.categories.map((name) => option(`=${name}`, name)));
    }
    this.controls.set(feature.name, control);
    return field(feature.name, control, { hint, path: JSON.stringify([feature.name]) });
  }

  /** Another real row, if the version has some. */
  next() {
    this.fill(startingRow(this.card, ++this.shown));
  }

  fill(row) {
    for (const [name, control] of this.controls) {
      const value = row[name];
      control.value = value === null || value === undefined ? "" : control.tagName === "SELECT" ? `=${value}` : value;
    }
  }

  /** The row as the API takes it. */
  read() {
    const entries = [...this.controls].map(([name, control]) => {
      if (control.value === "") return [name, null];
      return [name, control.tagName === "SELECT" ? control.value.slice(1) : Number(control.value)];
    });
    return Object.fromEntries(entries);
  }

  filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const node of this.fields.children) node.hidden = !node.querySelector("label").textContent.toLowerCase().includes(wanted);
  }
}
