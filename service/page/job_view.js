// One job, live: its state, losses, log, and what came of it. All of it comes from the events,
// from the first on, so that a reload or a lost connection loses nothing.

import { call, clearProblem, follow, showProblem } from "./api.js";
import { refresh } from "./chooser.js";
import { announce, element } from "./dom.js";
import { draw, figure } from "./plot.js";
import { showReport } from "./report.js";
import { duration, number, time, whole } from "./text.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const DRAW_PAUSE = 300;
// Written out: for powers plotly would set styles that the page's policy forbids.
const LOSSES = Array.from({ length: 16 }, (_, i) => [1, 2, 5].map((step) => step * 10 ** (i - 9))).flat();

export class JobView {
  constructor(place, id) {
    this.id = id;
    this.path = `/v1/training_jobs/${id}`;
    this.stopped = new AbortController();
    this.epochs = [];
    this.best = null;
    this.error = element("div");
    this.title = element("h2", {}, "Training job");
    this.state = element("p", { role: "status", class: "state" }, "Loading …");
    this.line = element("p", { class: "hint connection" });
    this.progress = element("progress", { max: 1, value: 0, "aria-label": "Progress of the training" });
    this.figure = figure("Training and validation loss by epoch");
    this.figure.plot.classList.add("later");
    this.log = element("ol", { class: "log", tabindex: 0, "aria-label": "Log of the job" });
    this.buttons = element("div", { class: "actions" });
    this.report = element("div", { class: "stack" });
    place.replaceChildren(
      element(
        "div", { class: "card" }, this.title, this.state, this.progress, this.line, this.buttons, this.error,
        element("div", { class: "columns" }, this.figure.node, element("div", {}, element("h3", {}, "Log"), this.log)),
      ),
      this.report,
    );
  }

  close() {
    this.stopped.abort();
    clearTimeout(this.drawing);
  }

  async run() {
    try {
      this.job = await call("GET", this.path, { signal: this.stopped.signal });
      this.title.textContent = `${this.job.model}: predicting ${this.job.target}`;
      this.showState();
      await follow(`${this.path}/events`, {
        signal: this.stopped.signal,
        onEvent: (event) => this.take(event),
        isLast: (event) => ENDED.has(event.data.status),
        onState: (state) => (this.line.textContent = state === "lost" ? "The connection is lost. The job goes on; this page takes up the events where it lost them." : ""),
      });
      await this.end();
    } catch (error) {
      if (error.name !== "AbortError") showProblem(this.error, error);
    }
  }

  take(event) {
    if (event.type === "epoch") {
      this.epochs.push(event.data);
      if (event.data.is_best) this.best = event.data.epoch;
      this.drawing ??= setTimeout(() => this.drawLosses(), DRAW_PAUSE);
      this.progressOf(event);
      return;
    }
    if (event.type === "status") {
      this.job.status = event.data.status ?? this.job.status;
      this.showState();
    }
    const isNear = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    this.log.append(element("li", { class: event.level }, `${time(event.created_at)} – ${event.message}`));
    if (isNear) this.log.scrollTop = this.log.scrollHeight;
  }

  /** Progress is the job's own; it is asked for now and then, not with each epoch. */
  async progressOf() {
    if (this.asked && Date.now() - this.asked < 700) return;
    this.asked = Date.now();
    try {
      const { status, progress } = await call("GET", this.path, { signal: this.stopped.signal });
      if (ENDED.has(this.job.status)) return;
      Object.assign(this.job, { status, progress });
      this.showState();
    } catch {
      // The stream says what there is to say of a connection.
    }
  }

  showState() {
    const { status, progress } = this.job;
    const left = progress?.eta_seconds ?? null;
    const words = {
      queued: "Queued: it starts as soon as a worker is free.",
      running: progress
        ? `Training: epoch ${whole(progress.epoch)} of at most ${whole(progress.epochs)}${left === null ? "" : `, at most ${duration(left)} left`}.`
        : "Reading the file.",
      succeeded: "Finished.", failed: "Failed.", cancelled: "Cancelled.",
    };
    this.state.textContent = words[status];
    this.progress.hidden = ENDED.has(status);
    if (progress) this.progress.value = progress.fraction;
    else if (status === "running") this.progress.removeAttribute("value");
    const act = (verb, text) => element("button", { onclick: () => this.act(verb) }, text);
    const canStop = status === "queued" || status === "running";
    const canResume = status === "failed" || status === "cancelled";
    if (this.shownFor === status) return;
    this.shownFor = status;
    this.buttons.replaceChildren(
      ...[canStop ? act("cancel", "Cancel") : null, canResume ? act("resume", "Resume from the last checkpoint") : null].filter(Boolean),
      element("a", { class: "button", href: "#/train" }, "Another job"),
    );
  }

  async act(verb) {
    clearProblem(this.error);
    try {
      await call("POST", `${this.path}:${verb}`);
      if (verb === "resume") {
        this.log.replaceChildren();
        this.epochs = [];
        this.run();
      }
    } catch (error) {
      showProblem(this.error, error);
    }
  }

  async end() {
    this.job = await call("GET", this.path, { signal: this.stopped.signal });
    this.showState();
    this.drawLosses();
    const { status, result, error, model } = this.job;
    if (status === "failed") {
      this.error.replaceChildren(
        element("div", { class: "problem", role: "alert" }, element("strong", {}, "The job failed"), element("p", {}, error.message), error.param ? element("p", { class: "hint" }, `Field: ${error.param}`) : null),
      );
    }
    if (status !== "succeeded") return;
    const fate = result.promoted ? "it answers as production" : "it does not answer as production";
    announce(`Finished: ${model} version ${result.version}; ${fate}.`);
    this.report.replaceChildren(element("p", { class: "loading" }, "Loading the report …"));
    const card = await call("GET", `/v1/models/${model}/versions/${result.version}`, { signal: this.stopped.signal });
    this.report.replaceChildren();
    showReport(this.report, card, result);
    refresh().catch(() => {});
  }

  drawLosses() {
    this.drawing = null;
    const epochs = this.epochs;
    if (!epochs.length) return;
    draw(this.figure.plot, (theme) => {
      const line = (name, key, colour) => ({ x: epochs.map((e) => e.epoch), y: epochs.map((e) => e[key]), name, mode: epochs.length < 3 ? "markers" : "lines", line: { color: colour, width: 2 } });
      const best = epochs.find((e) => e.epoch === this.best);
      return {
        traces: [
          line("training", "training_loss", theme.muted), line("validation", "validation_loss", theme.accent),
          ...(best ? [{ x: [best.epoch], y: [best.validation_loss], mode: "markers", name: "best", marker: { color: theme.second, size: 9 } }] : []),
        ],
        layout: { height: 280, xaxis: { title: "epoch", rangemode: "tozero" }, yaxis: { title: "loss", ...(epochs.every((e) => e.training_loss > 0 && e.validation_loss > 0) ? { type: "log", tickvals: LOSSES, tickformat: "~g" } : {}) } },
      };
    }).catch((error) => (this.figure.caption.textContent = error.message));
    const last = epochs.at(-1);
    this.figure.caption.textContent = `Epoch ${whole(last.epoch)}: training loss ${number(last.training_loss)}, validation loss ${number(last.validation_loss)}${this.best ? `; the best epoch so far is ${whole(this.best)}` : ""}. Training is with dropout on, validation with dropout off.`;
  }
}
