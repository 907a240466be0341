// What a training job may be asked for; empty fields leave the choice to the service.

import { clearProblem, showProblem } from "./api.js";
import { element, field, option } from "./dom.js";

const KINDS = { bernoulli: "of units (Bernoulli)", gaussian: "noise on units (Gaussian)", concrete: "p is learned (Concrete)", dropconnect: "of weights (DropConnect)" };

export class JobForm {
  constructor(dataset, submit) {
    this.dataset = dataset;
    const usable = dataset.columns.filter((column) => column.note === null);
    this.target = (usable.at(-1) ?? dataset.columns.at(-1)).name;
    this.fields = [];
    this.error = element("div");
    const button = element("button", { class: "primary", type: "submit" }, "Start training");
    this.model = this.input(["model"], "Name of the model", { value: nameFrom(dataset.name), required: true, hint: "A new name makes a new model; one that is there gets a new version." });
    this.shown = element("strong", {}, this.target);
    this.node = element(
      "form", {
        novalidate: true,
        onsubmit: async (event) => {
          event.preventDefault();
          clearProblem(this.error, this.node);
          button.disabled = true;
          try {
            await submit(this.read());
          } catch (error) {
            showProblem(this.error, error, this.node);
          } finally {
            button.disabled = false;
          }
        },
      },
      element("p", {}, "Predict ", this.shown, ", the column picked above."),
      element("div", { class: "fields" }, this.model),
      element("details", {}, element("summary", {}, "Network and training (all have defaults)"), element("div", { class: "fields" }, this.advanced())),
      element("div", { class: "actions" }, button),
      this.error,
    );
  }

  advanced() {
    const h = (...path) => ["hyperparameters", ...path];
    return [
      this.input(h("hidden"), "Hidden units", { placeholder: "256, 256", hint: "one number for each hidden layer", read: numbers }),
      this.select(h("activation"), "Activation", { relu: "ReLU", gelu: "GELU", silu: "SiLU", tanh: "tanh" }),
      this.select(h("dropout", "kind"), "Dropout", KINDS),
      this.input(h("dropout", "p"), "p, probability of being dropped", { placeholder: "0.1", hint: "one for all hidden layers, a list, or auto", read: probability }),
      this.input(h("dropout", "input_p"), "p of the inputs", { placeholder: "0", read: Number, inputmode: "decimal" }),
      this.input(h("epochs"), "Epochs, at most", { placeholder: "by the number of rows", read: Number, inputmode: "numeric" }),
      this.input(h("batch_size"), "Rows of a batch", { placeholder: "by the number of rows", read: Number, inputmode: "numeric" }),
      this.input(h("learning_rate"), "Learning rate", { placeholder: "0.003", read: Number, inputmode: "decimal" }),
      this.input(h("weight_decay"), "Weight decay", { placeholder: "0.01", read: Number, inputmode: "decimal" }),
      this.input(h("max_norm"), "Max norm", { placeholder: "none", hint: "largest norm of the weights into a unit", read: Number, inputmode: "decimal" }),
      this.input(h("early_stopping_patience"), "Patience", { placeholder: "50", hint: "epochs without a better validation loss", read: Number, inputmode: "numeric" }),
      this.select(["task"], "Task", { auto: "by the target", regression: "regression", classification: "classification" }),
      this.select(["calibration"], "Calibration", { auto: "by the number of rows", split: "on a split", cross: "across folds" }),
      this.input(["seed"], "Seed", { placeholder: "0", read: Number, inputmode: "numeric" }),
      this.select(["promote"], "Promote", { if_better: "if it is better", always: "always", never: "never" }),
      this.select(["keep_excerpt"], "Rows kept with the version", { true: "up to 200, to be shown", false: "none" }, (text) => text === "true"),
    ];
  }

  input(path, label, { hint = null, read = String, ...attributes }) {
    return this.add(path, label, element("input", { type: "text", autocomplete: "off", ...attributes }), hint, read);
  }

  select(path, label, choices, read = String) {
    return this.add(path, label, element("select", {}, Object.entries(choices).map(([value, text]) => option(value, text))), null, read);
  }

  add(path, label, control, hint, read) {
    this.fields.push({ path, control, read });
    return field(label, control, { hint, path: JSON.stringify(path) });
  }

  setTarget(name) {
    this.target = name;
    this.shown.textContent = name;
  }

  focus() {
    this.model.querySelector("input").focus({ preventScroll: true });
  }

  /** The request: what was filled in, and nothing else. */
  read() {
    const request = { dataset: this.dataset.id, target: this.target };
    for (const { path, control, read } of this.fields) {
      const text = control.value.trim();
      if (text === "") continue;
      const value = read(text);
      let place = request;
      for (const name of path.slice(0, -1)) place = place[name] ??= {};
      // What is not a number goes as it is: the service says what is wrong with it, and where.
      place[path.at(-1)] = Number.isNaN(value) ? text : value;
    }
    return request;
  }
}

const numbers = (text) => text.split(/[\s,;]+/).filter(Boolean).map((part) => (Number.isNaN(Number(part)) ? part : Number(part)));

function probability(text) {
  const found = numbers(text);
  return found.length === 1 ? found[0] : found;
}

/** A model's name as the service allows it, from a file's. */
function nameFrom(file) {
  const stem = file.replace(/\.[A-Za-z0-9]+$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
  return stem || "model";
}
