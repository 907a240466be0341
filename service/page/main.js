// Which part of the page is shown, by the address after the hash: #/part or #/part/detail.

import { showProblem } from "./api.js";

const PARTS = {
  play: () => import("./play.js"),
  ask: () => import("./ask.js"),
  train: () => import("./train.js"),
  models: () => import("./models.js"),
};
const opened = new Map();

async function show() {
  const [name, ...detail] = location.hash.replace(/^#\//, "").split("/").map(decodeURIComponent);
  const part = name in PARTS ? name : "play";
  for (const other of Object.keys(PARTS)) document.getElementById(other).hidden = other !== part;
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.getAttribute("href") === `#/${part}`;
    link.toggleAttribute("data-here", isHere);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("chooser").hidden = part !== "play" && part !== "ask";
  const section = document.getElementById(part);
  document.title = `${section.querySelector("h1").textContent.split(":")[0]} · Dropcast`;
  const place = section.querySelector(".part");
  try {
    if (!opened.has(part)) opened.set(part, PARTS[part]());
    await (await opened.get(part)).open(place, ...detail);
  } catch (error) {
    showProblem(place, error);
  }
}

addEventListener("hashchange", () => {
  document.getElementById("content").focus({ preventScroll: true });
  scrollTo({ top: 0 });
  show();
});
show();
