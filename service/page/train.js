// Train: a file, its columns, a target, and a job that is followed until it ends.

import { all, call, clearProblem, showProblem } from "./api.js";
import { announce, element, field, option } from "./dom.js";
import { JobForm } from "./job_form.js";
import { JobView } from "./job_view.js";
import { bytes, number, time, whole } from "./text.js";
import { upload } from "./upload.js";

let shop = null;

export async function open(place, job) {
  shop ??= new Shop(place);
  await shop.show(job ?? null);
}

class Shop {
  constructor(place) {
    this.place = place;
    this.view = null;
    this.error = element("div");
    this.dataset = element("div", { class: "stack" });
    this.start = element("div", { class: "stack" }, this.dropZone(), this.error, this.dataset);
    this.jobs = element("div", { class: "card" });
    this.job = element("div");
    place.classList.add("stack");
    place.replaceChildren(this.job, this.start, this.jobs);
  }

  /** The job of that id, or the way to a new one. */
  async show(id) {
    this.view?.close();
    this.view = null;
    this.job.replaceChildren();
    this.start.hidden = id !== null;
    if (id === null) await Promise.all([this.listDatasets(), this.listJobs()]);
    else {
      this.view = new JobView(this.job, id);
      await this.listJobs();
      await this.view.run();
      await this.listJobs();
    }
  }

  dropZone() {
    const input = (this.input = element("input", { type: "file", accept: ".csv,.tsv,.txt,.parquet,.ndjson,.jsonl", onchange: () => input.files[0] && this.upload(input.files[0]) }));
    this.known = element("select", { onchange: () => this.known.value && this.open(this.known.value) });
    const zone = element(
      "div", { class: "drop" },
      element("p", {}, element("strong", {}, "Drop a CSV, Parquet or NDJSON file here")),
      field("or choose one", input, { hint: "The first line of a CSV names its columns." }),
      this.knownField = field("or take a dataset that is here already", this.known),
    );
    const over = (isOver) => (event) => (event.preventDefault(), zone.classList.toggle("over", isOver));
    zone.addEventListener("dragover", over(true));
    zone.addEventListener("dragleave", over(false));
    zone.addEventListener("drop", (event) => {
      over(false)(event);
      const [file] = event.dataTransfer.files;
      if (file) this.upload(file);
    });
    return zone;
  }

  async upload(file) {
    clearProblem(this.error);
    this.input.value = "";
    try {
      const found = await upload(this.dataset, file, `/v1/datasets?name=${encodeURIComponent(file.name)}`, {
        headers: { "Content-Type": mediaType(file.name) }, then: "The service is looking at its columns …",
      });
      if (found === null) return;
      this.showDataset(found);
      this.listDatasets();
    } catch (error) {
      showProblem(this.error, error);
    }
  }

  async open(id) {
    clearProblem(this.error);
    try {
      this.showDataset(await call("GET", `/v1/datasets/${id}`));
    } catch (error) {
      showProblem(this.error, error);
    }
  }

  showDataset(found) {
    const form = new JobForm(found, async (request) => {
      const job = await call("POST", "/v1/training_jobs", { json: request, headers: { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) } });
      location.hash = `#/train/${job.id}`;
    });
    this.dataset.replaceChildren(element("div", { class: "card" }, profile(found, form)), element("div", { class: "card" }, element("h2", {}, "What to train"), form.node));
    announce(`${found.name}: ${found.rows} rows, ${found.columns.length} columns. Pick the target.`);
    form.focus();
  }

  async listDatasets() {
    try {
      const found = await all("/v1/datasets");
      this.knownField.hidden = found.length === 0;
      this.known.replaceChildren(option("", "choose …"), ...found.map((one) => option(one.id, `${one.name} (${whole(one.rows)} rows)`)));
    } catch (error) {
      showProblem(this.error, error);
    }
  }

  async listJobs() {
    try {
      const { data } = await call("GET", "/v1/training_jobs?limit=10");
      this.jobs.replaceChildren(element("h2", {}, "Recent jobs"), data.length ? jobTable(data) : element("p", { class: "empty" }, "None yet."));
    } catch (error) {
      showProblem(this.jobs, error);
    }
  }
}

function mediaType(name) {
  if (/\.parquet$/i.test(name)) return "application/vnd.apache.parquet";
  return /\.(ndjson|jsonl)$/i.test(name) ? "application/x-ndjson" : "text/csv";
}

/** The columns as the service has profiled them; the target is picked among them. */
function profile(found, form) {
  const rows = found.columns.map((column, i) => {
    const radio = element("input", { type: "radio", name: "target", value: column.name, id: `target-${i}`, checked: column.name === form.target, onchange: () => form.setTarget(column.name) });
    const range = column.minimum === null ? column.examples.slice(0, 3).join(", ") : `${number(column.minimum)} – ${number(column.maximum)}`;
    return element(
      "tr", {},
      element("td", {}, radio), element("td", {}, element("label", { for: `target-${i}` }, column.name)), element("td", {}, column.type),
      element("td", { class: "figure" }, whole(column.missing)), element("td", { class: "figure" }, whole(column.distinct)), element("td", { class: column.minimum === null ? "" : "whole" }, range), element("td", {}, column.note ? `not used as a feature: ${column.note}` : ""),
    );
  });
  const heads = ["Target", "Column", "Type", "Missing", "Different", "Range or examples", "Note"];
  return element(
    "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Columns" },
    element(
      "table", {},
      element("caption", {}, `${found.name}: ${whole(found.rows)} rows, ${whole(found.columns.length)} columns, ${bytes(found.bytes)}. Pick the column to predict.`),
      element("thead", {}, element("tr", {}, heads.map((head, i) => element("th", { scope: "col", class: i === 3 || i === 4 ? "figure" : "" }, head)))),
      element("tbody", {}, rows),
    ),
  );
}

function jobTable(jobs) {
  const rows = jobs.map((job) =>
    element(
      "tr", {},
      element("td", {}, element("a", { href: `#/train/${job.id}` }, job.model)), element("td", {}, job.target), element("td", {}, job.status),
      element("td", {}, job.result ? `version ${job.result.version}` : (job.error?.message ?? "")), element("td", { class: "whole" }, time(job.created_at)),
    ),
  );
  const heads = ["Model", "Target", "State", "Outcome", "Asked for"];
  return element(
    "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Recent jobs" },
    element("table", {}, element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, rows)),
  );
}
