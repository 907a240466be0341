// The service's public API: JSON in and out, problems as errors, live events that resume.

import { element } from "./dom.js";

let key = null;
let asking = null;

/** An error as the service tells it (RFC 9457). */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, errors = [], request_id = "" }) {
    super(`${title}: ${detail}`);
    Object.assign(this, { title, detail, status, errors, requestId: request_id });
  }
}

/** The answer to one request, its body read as JSON if it is any. `onProgress(sent, total)` hears
 * how many bytes of the body are sent. */
export async function call(method, path, { json, body, headers = {}, signal, onProgress } = {}) {
  const response = await send(method, path, {
    headers: json === undefined ? headers : { "Content-Type": "application/json", ...headers },
    body: json === undefined ? body : JSON.stringify(json),
    signal,
    onProgress,
  });
  if (response.status === 204) return null;
  const type = response.headers.get("Content-Type") ?? "";
  return type.includes("json") ? response.json() : response.blob();
}

/** All entries of a list, page by page. */
export async function all(path, name = "id") {
  const found = [];
  for (let after = ""; ; ) {
    const page = await call("GET", `${path}?limit=100${after}`);
    found.push(...page.data);
    if (!page.has_more) return found;
    after = `&after=${encodeURIComponent(page.data.at(-1)[name])}`;
  }
}

/**
 * Each event of a stream in order, until `isLast` says so. A lost connection is taken up again
 * after the last event seen; `onState` hears "live" and "lost".
 */
export async function follow(path, { signal, onEvent, isLast, onState = () => {} }) {
  let last = "";
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await send("GET", path, { headers, signal });
      onState("live");
      for await (const event of events(response.body)) {
        wait = 500;
        last = event.id;
        onEvent(event.data);
        if (isLast(event.data)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status !== 0 && error.status !== 503) throw error;
    }
    onState("lost");
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (signal.aborted) return;
  }
}

async function send(method, path, { headers, body, signal, onProgress }) {
  for (;;) {
    const used = key;
    let response;
    try {
      const named = used === null ? headers : { ...headers, Authorization: `Bearer ${used}` };
      response = await (onProgress ? transfer : fetch)(path, { method, headers: named, body, signal, onProgress });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({
        title: "The service does not answer",
        detail: "It may be stopped, or the connection is lost. What you have entered is still here.",
      });
    }
    if (response.ok) return response;
    const problem = await read(response);
    if (response.status !== 401) throw problem;
    // Another request may have been given a key meanwhile.
    if (key === used) await askForKey(problem);
  }
}

/** What `fetch` does, but it tells how many bytes are sent. */
function transfer(path, { method, headers, body, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const answered = { status: request.status, statusText: request.statusText, headers: { "Content-Type": request.getResponseHeader("Content-Type") ?? "" } };
      resolve(new Response(request.response, answered));
    });
    request.addEventListener("error", () => reject(new TypeError("not sent")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

async function read(response) {
  try {
    return new Problem(await response.json());
  } catch {
    return new Problem({ title: `Status ${response.status}`, detail: response.statusText, status: response.status });
  }
}

/** One dialog, however many requests wait for it. */
function askForKey(problem) {
  asking ??= new Promise((resolve, reject) => {
    const dialog = document.getElementById("key");
    const input = dialog.querySelector("input");
    dialog.querySelector(".reason").textContent = problem.detail;
    dialog.returnValue = "cancel";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const value = input.value.trim();
        input.value = "";
        if (dialog.returnValue !== "use" || !value) return reject(problem);
        key = value;
        resolve();
      },
      { once: true },
    );
    dialog.showModal();
    input.focus();
  });
  return asking;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").map((line) => line.split(/: ?(.*)/s));
      const fields = Object.fromEntries(lines.filter(([name]) => name));
      if (fields.data) yield { id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}

/** Shows an error in that place: its title and detail, and each fault at its field. */
export function showProblem(place, error, form = null) {
  const another = error?.status === 403 && key !== null;
  if (error?.name === "AbortError") return;
  const problem = error instanceof Problem ? error : new Problem({ title: "This page made a mistake", detail: String(error) });
  if (!(error instanceof Problem)) console.error(error);
  const elsewhere = problem.errors.filter((fault) => !(form && mark(form, fault)));
  place.replaceChildren(
    element(
      "div",
      { class: "problem", role: "alert" },
      element("strong", {}, problem.title),
      element("p", {}, problem.detail),
      elsewhere.length > 0 && problem.errors.length > 1
        ? element("ul", {}, elsewhere.map((fault) => element("li", {}, `${fault.loc.join(" › ")}: ${fault.msg}`)))
        : null,
      problem.requestId ? element("p", { class: "hint" }, `Request ${problem.requestId}`) : null,
      another ? element("button", { type: "button", onclick: () => askForKey(problem).catch(() => {}) }, "Use another key") : null,
    ),
  );
  form?.querySelector("[aria-invalid]")?.focus();
}

/** Takes back what `showProblem` showed. */
export function clearProblem(place, form = null) {
  place.replaceChildren();
  for (const control of form?.querySelectorAll("[aria-invalid]") ?? []) {
    control.removeAttribute("aria-invalid");
    document.getElementById(`${control.id}-fault`).textContent = "";
  }
}

/** Whether the form has the field that a fault is at. */
function mark(form, fault) {
  const path = JSON.stringify(fault.loc.filter((part, i) => !(part === "instances" && i === 0) && !(i === 1 && fault.loc[0] === "instances")));
  const control = [...form.querySelectorAll("[data-path]")].find((one) => path.startsWith(one.dataset.path.slice(0, -1)));
  if (!control) return false;
  control.setAttribute("aria-invalid", "true");
  const details = control.closest("details");
  if (details) details.open = true;
  document.getElementById(`${control.id}-fault`).textContent = fault.msg;
  return true;
}
