// Ask: one row in, the prediction and its distribution out, and a sweep over one feature.

import { call, clearProblem, showProblem } from "./api.js";
import { onChoice } from "./chooser.js";
import { distribution, prediction } from "./answer.js";
import { announce, element, field, option } from "./dom.js";
import { RowForm } from "./row_form.js";
import { Sweep } from "./sweep.js";
import { term } from "./terms.js";

let desk = null;

export function open(place) {
  if (desk) return;
  desk = new Desk(place);
  onChoice((choice) => desk.begin(choice));
}

class Desk {
  constructor(place) {
    this.place = place;
    place.replaceChildren(element("p", { class: "loading", role: "status" }, "Waiting for a model …"));
  }

  begin(choice) {
    this.choice = choice;
    this.form = new RowForm(choice.card, () => this.ask());
    this.options = new Options();
    this.error = element("div");
    this.answers = element("div", { class: "answers", "aria-live": "off" });
    this.curl = element("div");
    this.stale = element("p", { class: "note warning", hidden: true }, "The row has changed since it was answered: press Ask.");
    this.form.node.addEventListener("input", () => this.setStale(true));
    this.sweep = new Sweep(choice, () => this.form.read(), this.form.node);
    const hasRows = Boolean(choice.card.report?.excerpt?.length);
    this.form.node.append(
      this.options.node,
      element(
        "div", { class: "actions" },
        element("button", { class: "primary", type: "submit" }, "Ask"),
        element("button", { type: "button", onclick: () => (this.form.next(), this.ask()) }, hasRows ? "Another real row" : "An ordinary row"),
        element("span", { class: "hint" }, hasRows ? "At first it is a row of the training data; change what you like." : "This version kept no rows of its training data: the form starts from averages."),
      ),
    );
    this.place.classList.add("stack");
    this.place.replaceChildren(
      element("div", { class: "card" }, element("h2", {}, "The row"), this.form.node, this.error),
      this.stale,
      this.answers,
      element("div", { class: "card" }, element("h2", {}, "Sweep one feature"), this.sweep.node),
      element("div", { class: "card curls" }, element("h2", {}, "The same with curl"), this.curl),
    );
    this.ask();
  }

  /** Whether the answers in view are of another row than the form's. */
  setStale(isStale) {
    this.stale.hidden = !isStale;
    this.answers.classList.toggle("stale", isStale);
  }

  async ask() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    const { choice, form } = this;
    const instances = [form.read()];
    const bodies = { predict: { instances }, uncertainty: { instances, ...this.options.read(choice.card) } };
    clearProblem(this.error, form.node);
    this.showCurl(bodies);
    const ask = (verb, body) => call("POST", `${choice.address}:${verb}`, { json: body, signal: request.signal });
    try {
      const predicted = await ask("predict", bodies.predict);
      const shown = prediction(choice.card, predicted.predictions[0]);
      this.setStale(false);
      this.answers.replaceChildren(shown, element("p", { class: "loading" }, "Drawing thinned networks: the same network, again and again with other units dropped …"));
      const uncertain = await ask("uncertainty", { ...bodies.uncertainty, return_samples: true });
      if (request.signal.aborted) return;
      this.answers.replaceChildren(shown);
      distribution(this.answers, choice.card, uncertain);
      announce(`Answered: ${this.answers.querySelector(".summary")?.textContent ?? ""}`);
      this.sweep.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.answers.querySelector(".loading")?.remove();
      showProblem(this.error, error, form.node);
    }
  }

  showCurl(bodies) {
    const calls = Object.entries(bodies).map(([verb, body]) => {
      const text = JSON.stringify(body).replaceAll("'", "'\\''");
      return `curl -s '${location.origin}${this.choice.address}:${verb}' -d '${text}'`;
    });
    this.curl.replaceChildren(
      ...calls.map((text, i) => {
        const verb = Object.keys(bodies)[i];
        const copy = element("button", { class: "quiet", onclick: () => copyText(text, copy) }, "Copy");
        return element("div", {}, element("h3", {}, `:${verb} `, copy), element("pre", { class: "curl", tabindex: 0, "aria-label": `curl call of ${verb}` }, text));
      }),
      element("p", { class: "hint" }, "If the service asks for a key, add -H 'Authorization: Bearer …'."),
    );
  }
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy by hand";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/** As many thinned networks, by which seed, for which coverage. */
class Options {
  constructor() {
    const input = (value, attributes) => element("input", { type: "number", value, ...attributes });
    this.samples = input(100, { min: 2, max: 10000, step: 1 });
    this.seed = input(0, { min: 0, step: 1 });
    this.coverage = input(0.9, { min: 0.01, max: 0.999, step: "any" });
    this.node = element(
      "details", {},
      element("summary", {}, "Samples, seed and coverage"),
      element(
        "div", { class: "fields" },
        field("Samples", this.samples, { hint: ["T: how many ", term("thinned network", "thinned networks"), " are drawn"], path: '["n_samples"]' }),
        field("Seed", this.seed, { hint: [term("seed", "names the masks"), "; the same seed, the same answer. Empty: a fresh one"], path: '["seed"]' }),
        field("Coverage", this.coverage, { hint: ["how often the interval or the prediction set shall ", term("coverage", "contain the truth")], path: '["coverage"]' }),
      ),
    );
  }

  read() {
    return {
      n_samples: Number(this.samples.value), seed: this.seed.value === "" ? null : Number(this.seed.value), coverage: Number(this.coverage.value),
    };
  }
}
