// Numbers, times and sizes as the reader's locale writes them.

const formats = new Map();
function formatter(digits) {
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat(undefined, { maximumSignificantDigits: digits }));
  }
  return formats.get(digits);
}
const WHOLE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const PERCENT = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A number to so many significant digits. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-6)) return value.toExponential(2);
  return formatter(digits).format(value);
}
export const whole = (value) => WHOLE.format(value);
export const percent = (value) => PERCENT.format(value);
export const time = (text) => TIME.format(new Date(text));

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  let i = 0;
  for (; count >= 1000 && i < units.length - 1; i++) count /= 1000;
  return `${number(count, 3)} ${units[i]}`;
}

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${whole(seconds)} s`;
  return seconds < 5400 ? `${whole(seconds / 60)} min` : `${number(seconds / 3600, 2)} h`;
}

/** "a, b and c" */
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Cut in the middle, where names of one family are alike least seldom. */
export function shortened(text, most) {
  if (text.length <= most) return text;
  const half = Math.max(1, Math.floor((most - 1) / 2));
  return `${text.slice(0, most - 1 - half)}…${text.slice(-half)}`;
}

/** What plotly writes between digits and before decimals. */
export function separators() {
  const parts = new Intl.NumberFormat(undefined, { useGrouping: "always" }).formatToParts(12345.6);
  const find = (type, otherwise) => parts.find((part) => part.type === type)?.value ?? otherwise;
  return find("decimal", ".") + find("group", ",");
}
