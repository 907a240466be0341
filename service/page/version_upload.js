// A version from elsewhere: its artifact, as "Download" gives it, becomes a version here.

import { clearProblem, Problem, showProblem } from "./api.js";
import { announce, element, field, option } from "./dom.js";
import { upload } from "./upload.js";

const PROMOTE = { if_first: "if it is the first one", always: "always", never: "never" };

/** The form; `onMade(card)` hears of each new version. */
export function versionUpload(onMade) {
  const error = element("div");
  const sending = element("div");
  const name = element("input", { type: "text", autocomplete: "off", required: true });
  const file = element("input", { type: "file", accept: ".zip,application/zip", required: true, onchange: () => file.files[0] && (name.value ||= nameFrom(file.files[0].name)) });
  const promote = element("select", {}, Object.entries(PROMOTE).map(([value, text]) => option(value, text)));
  const button = element("button", { type: "submit", class: "primary" }, "Upload the version");
  const form = element(
    "form", { novalidate: true, onsubmit: (event) => (event.preventDefault(), submit()) },
    element(
      "div", { class: "fields" },
      field("Artifact", file, { hint: "the .zip that Download gives, from here or from another service", path: '["artifact"]' }),
      field("Model", name, { hint: "it becomes the next version of the model of that name", path: '["path","model"]' }),
      field("Into production", promote, { path: '["query","promote"]' }),
    ),
    element("div", { class: "actions" }, button),
    sending,
    error,
  );

  async function submit() {
    clearProblem(error, form);
    const [chosen] = file.files;
    const fault = !chosen ? ["artifact", "choose a .zip file"] : !name.value.trim() ? ["path", "model", "give the model a name"] : null;
    if (fault) {
      const msg = fault.pop();
      return showProblem(error, new Problem({ title: "Something is missing", detail: msg, errors: [{ loc: fault, msg }] }), form);
    }
    button.disabled = true;
    try {
      const path = `/v1/models/${encodeURIComponent(name.value.trim())}/versions?promote=${promote.value}`;
      const card = await upload(sending, chosen, path, { headers: { "Content-Type": "application/zip" }, then: "The service is checking it …" });
      if (card === null) return;
      file.value = "";
      name.value = "";
      announce(`${card.model}: version ${card.version} is here.`);
      await onMade(card);
    } catch (problem) {
      showProblem(error, problem, form);
    } finally {
      button.disabled = false;
    }
  }
  return element("details", { class: "card" }, element("summary", {}, "Add a version from a file"), form);
}

/** "concrete" of "concrete-3.zip" and of "concrete-3 (1).zip". */
function nameFrom(file) {
  return file.replace(/( ?\(\d+\))?\.zip$/i, "").replace(/-\d+$/, "");
}
