// Elements, made with their attributes and children in one go; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on…` are listeners, `true` a bare attribute, null and false none. */
export const element = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const drawing = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Whether it was said in a dialog that this shall be done. */
export function confirmed(question, consequence, verb) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("h2").textContent = question;
  dialog.querySelector(".consequence").textContent = consequence;
  dialog.querySelector("[value=do]").textContent = verb;
  dialog.returnValue = "cancel";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
    dialog.showModal();
  });
}

let number = 0;
/** An id that nothing else on the page has. */
export const freshId = (stem) => `${stem}-${++number}`;

/** A label and its control, with room for a hint and for what is wrong with it. */
export function field(label, control, { hint = null, path = null } = {}) {
  control.id ||= freshId("field");
  const fault = element("span", { class: "fault", id: `${control.id}-fault` });
  const below = hint === null ? null : element("span", { class: "hint", id: `${control.id}-hint` }, hint);
  control.setAttribute("aria-describedby", below ? `${below.id} ${fault.id}` : fault.id);
  if (path !== null) control.dataset.path = path;
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control, below, fault);
}

export function option(value, text = value, isChosen = false) {
  return element("option", { value, selected: isChosen }, text);
}

/** Says something to who listens instead of looking. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Calls a function once things have been quiet for so long. */
export function settled(milliseconds, then) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => then(...values), milliseconds);
  };
}
