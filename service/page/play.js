// Play: one row, one network, and what dropout does to both.

import { call, clearProblem, showProblem } from "./api.js";
import { onChoice, startingRow } from "./chooser.js";
import { announce, element, field, freshId, option, settled } from "./dom.js";
import { drawNetwork } from "./network.js";
import { networkKey } from "./network_key.js";
import { explain, explainUnit } from "./play_text.js";
import { RunningMean } from "./running_mean.js";
import { term } from "./terms.js";
import { number, whole } from "./text.js";

const LOOP_PAUSE = 1200;
const KEEP = "Keep drawing";
let stage = null;

export function open(place) {
  if (stage) return;
  stage = new Stage(place);
  onChoice((choice) => stage.begin(choice));
}

class Stage {
  constructor(place) {
    this.place = place;
    this.mode = "train";
    this.place.replaceChildren(element("p", { class: "loading", role: "status" }, "Waiting for a model …"));
    this.askForP = settled(120, () => this.load());
  }

  /** Starts afresh with that model. */
  begin(choice) {
    this.stop();
    Object.assign(this, { choice, row: 0, seed: 0, sample: 0, p: null, unit: null, label: null });
    const card = choice.card;
    // Drawing weights' masks costs as much as there are weights.
    this.samples = card.dropout.kind === "dropconnect" || card.network.parameters > 1e6 ? 50 : 200;
    this.build(card);
    this.load();
  }

  build(card) {
    const trained = [...new Set(card.dropout.p)];
    const usual = card.dropout.p.reduce((sum, p) => sum + p, 0) / card.dropout.p.length;
    const name = freshId("mode");
    const mode = (value, text) => {
      const id = freshId("mode");
      return [
        element("input", { type: "radio", name, id, value, checked: this.mode === value, onchange: () => this.setMode(value) }),
        element("label", { for: id }, element("code", {}, `${value}()`), ` ${text}`),
      ];
    };
    this.buttons = {
      draw: element("button", { class: "primary", onclick: () => this.step() }, "Draw new masks"),
      loop: element("button", { "aria-pressed": "false", onclick: () => this.toggleLoop() }, KEEP),
      all: element("button", { onclick: () => this.show(this.samples - 1) }, `Take all ${this.samples} samples`),
      row: element("button", { onclick: () => this.nextRow() }, "Another row of data"),
    };
    this.scrubber = element("input", { type: "range", min: 1, max: this.samples, value: 1, oninput: () => this.show(this.scrubber.value - 1) });
    this.slider = element("input", {
      type: "range", min: 0.01, max: 0.9, step: 0.01, value: usual.toFixed(2),
      oninput: () => this.setP(Number(this.slider.value)),
    });
    this.reset = element("button", { class: "quiet", disabled: true, onclick: () => this.setP(null) }, "Back to p as trained");
    this.trained = { text: trained.length === 1 ? number(trained[0]) : card.dropout.p.map((p) => number(p)).join(", "), usual };
    this.labels = element("select", { onchange: () => this.setLabel(this.labels.value) }, (card.labels ?? []).map((label) => option(label)));
    this.error = element("div");
    this.drawing = element("div", { class: "network" });
    this.unitText = element("div", { class: "unit" });
    this.words = element("div", { class: "words" });
    this.shownText = element("p", { class: "hint" });
    this.key = element("div");
    this.outputs = element("dl", { class: "outputs" });
    this.rowText = element("p", { class: "hint row-text", tabindex: 0 });
    this.running = new RunningMean();
    this.pOutput = element("output", {});
    this.sampleOutput = element("output", {});
    this.place.replaceChildren(
      this.error,
      element(
        "div",
        { class: "play" },
        element(
          "div", { class: "controls card" },
          element("fieldset", { class: "switch" }, element("legend", {}, "Mode"), mode("eval", "dropout off"), mode("train", "dropout on")),
          element("div", { class: "actions" }, this.buttons.draw, this.buttons.loop),
        ),
        element("div", { class: "picture card" }, element("h2", {}, "The network"), this.drawing, this.outputs, this.key, this.shownText),
        element(
          "div", { class: "settings card" },
          field(["Sample ", this.sampleOutput], this.scrubber),
          element("p", { class: "hint" }, "Each ", term("sample"), " is what one ", term("thinned network"), " answers."),
          element("div", { class: "actions" }, this.buttons.all),
          field(["p, the probability of being dropped: ", this.pOutput], this.slider),
          element("div", { class: "actions" }, this.reset),
          card.labels ? field("Class whose probability is shown", this.labels) : null,
          element("div", { class: "actions" }, this.buttons.row),
          this.rowText,
        ),
        element("div", { class: "explanation card" }, element("h2", {}, "What you see"), this.words),
        element(
          "div", { class: "figures stack" },
          element("div", { class: "card" }, element("h2", {}, "One unit, in numbers"), this.unitText),
          element("div", { class: "card" }, element("h2", {}, "Averaging samples"), this.running.node),
        ),
      ),
    );
    this.resized?.disconnect();
    let width = 0;
    this.resized = new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) < 2) return;
      width = entry.contentRect.width;
      this.draw();
    });
    this.resized.observe(this.drawing);
  }

  /** Asks the service for the sample in view; of several requests under way the last one counts. */
  async load() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    const { choice, seed, sample, p, samples } = this;
    try {
      const look = await call("POST", `${choice.address}:dropout`, {
        json: {
          instance: startingRow(choice.card, this.row), seed, sample, n_samples: samples, max_units: 12,
          ...(p !== null && { p }),
        },
        signal: request.signal,
      });
      if (request.signal.aborted) return;
      clearProblem(this.error);
      this.look = look;
      this.label ??= look.eval_output.label ?? null;
      if (this.label !== null) this.labels.value = this.label;
      this.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.stop();
      this.look = null;
      this.draw();
      showProblem(this.error, error);
    }
  }

  draw() {
    const { look, mode } = this;
    const isEval = mode === "eval";
    const hasLook = Boolean(look);
    for (const button of [this.buttons.draw, this.buttons.loop, this.buttons.all, this.scrubber]) button.disabled = isEval || !hasLook;
    this.slider.disabled = isEval || !hasLook;
    this.place.querySelector(".play").classList.toggle("nothing", !hasLook);
    if (!hasLook) return;
    this.reset.disabled = isEval || this.p === null;
    this.pOutput.textContent = this.p === null ? `${this.trained.text} (as trained)` : number(this.p);
    this.sampleOutput.textContent = `${whole(this.sample + 1)} of ${whole(this.samples)}`;
    this.scrubber.value = this.sample + 1;
    const row = startingRow(this.choice.card, this.row);
    this.rowText.textContent = `Row: ${Object.entries(row).slice(0, 12).map(([name, value]) => `${name} ${typeof value === "number" ? number(value) : value ?? "missing"}`).join(", ")}${this.choice.card.features.length > 12 ? " …" : ""}`;
    this.unit ??= firstUnit(look);
    const drawn = drawNetwork(this.drawing, look, {
      mode, unit: this.unit, choose: (unit) => this.setUnit(unit),
      answers: (name) => this.answer(isEval ? "eval" : "sample", name),
    });
    this.key.replaceChildren(networkKey(look.layers[0].kind, mode));
    this.shownText.textContent = drawn.summary;
    this.unitText.replaceChildren(...explainUnit(look, mode, this.unit));
    this.words.replaceChildren(...explain(look, mode, this.p, this.trained.text));
    this.showOutputs();
    this.running.draw(look, this.label, isEval ? null : this.sample, this.choice.card.target);
    this.state = drawn;
  }

  /** What the network says in eval mode or by the sample in view: the number, or a class's probability. */
  answer(which, label) {
    const { eval_output: evaluated, outputs } = this.look;
    if (which === "eval") return evaluated.value ?? evaluated.probabilities[label];
    const output = outputs[this.sample];
    return typeof output === "object" ? output[label] : output;
  }

  showOutputs() {
    const { mode, label } = this;
    const name = label === null ? this.choice.card.target : `probability of ${label}`;
    const entries = [["eval() output", number(this.answer("eval", label)), mode === "eval"], [`Output of sample ${this.sample + 1}`, mode === "eval" ? "no sample: dropout is off" : number(this.answer("sample", label)), mode === "train"]];
    this.outputs.replaceChildren(
      ...entries.map(([term, value, isNow]) => element("div", { class: isNow ? "now" : "" }, element("dt", {}, `${term}: ${name}`), element("dd", {}, value))),
    );
  }

  setMode(mode) {
    this.mode = mode;
    this.stop();
    this.draw();
    announce(mode === "eval" ? "Eval mode: no unit is dropped." : `Train mode: ${this.state.spoken}`);
  }

  setUnit(unit) {
    this.unit = unit;
    this.draw();
  }

  setLabel(label) {
    this.label = label;
    this.draw();
  }

  setP(p) {
    this.p = p;
    if (p === null) this.slider.value = this.trained.usual.toFixed(2);
    this.pOutput.textContent = p === null ? `${this.trained.text} (as trained)` : number(p);
    this.askForP();
  }

  nextRow() {
    this.row += 1;
    this.label = null;
    this.sample = 0;
    this.load();
  }

  async show(sample) {
    this.sample = Math.min(this.samples - 1, sample);
    await this.load();
    if (!this.timer && this.state) announce(`Sample ${this.sample + 1}: ${this.state.spoken}`);
  }

  /** The next sample; after the last one, the first of another seed. */
  async step() {
    if (this.sample + 1 < this.samples) return this.show(this.sample + 1);
    this.seed += 1;
    return this.show(0);
  }

  toggleLoop() {
    if (this.timer) return this.stop();
    const turn = async () => {
      if (!this.place.isConnected || this.place.closest("[hidden]")) return this.stop();
      await this.step();
      if (this.timer) this.timer = setTimeout(turn, LOOP_PAUSE);
    };
    this.timer = setTimeout(turn, 0);
    this.buttons.loop.setAttribute("aria-pressed", "true");
    this.buttons.loop.textContent = "Stop drawing";
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.buttons?.loop.setAttribute("aria-pressed", "false");
    if (this.buttons) this.buttons.loop.textContent = KEEP;
  }
}

/** The first unit that works in eval mode, so that its numbers say something. */
function firstUnit(look) {
  const layer = look.layers.findIndex((one) => one.name !== "input");
  const at = look.layers[layer].eval_activations.findIndex((value) => value !== 0);
  return { layer, at: Math.max(0, at) };
}
