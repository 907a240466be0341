// A file on its way to the service: how much of it is sent, and a way to stop.

import { call } from "./api.js";
import { announce, element } from "./dom.js";
import { bytes, percent } from "./text.js";

/**
 * Sends the file and gives the service's answer; null if it was cancelled. Shows in that place how
 * far it is, and `then`, what the service does once it has all of it.
 */
export async function upload(place, file, path, { headers, then }) {
  const stopped = new AbortController();
  const bar = element("progress", { max: 1, value: 0, "aria-label": `Sending ${file.name}` });
  const state = element("span", { class: "sent" }, `0 B of ${bytes(file.size)}`);
  const stop = element("button", { type: "button", onclick: () => stopped.abort() }, "Cancel");
  place.replaceChildren(element("div", { class: "card upload" }, element("p", {}, element("strong", {}, file.name), " ", state), bar, element("div", { class: "actions" }, stop)));
  announce(`Sending ${file.name}, ${bytes(file.size)}.`);
  const onProgress = (sent, total) => {
    bar.value = total ? sent / total : 1;
    state.textContent = `${bytes(sent)} of ${bytes(total)} sent (${percent(bar.value)})`;
    if (sent < total) return;
    bar.removeAttribute("value");
    state.textContent = `${bytes(total)} sent. ${then}`;
    announce(`Sent. ${then}`);
  };
  try {
    return await call("POST", path, { body: file, headers, signal: stopped.signal, onProgress });
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    announce(`Cancelled: ${file.name} is not kept.`);
    return null;
  } finally {
    place.replaceChildren();
  }
}
