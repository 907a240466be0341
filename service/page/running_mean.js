// The outputs of the samples so far, their running mean, and eval mode's output beside it.

import { element } from "./dom.js";
import { draw, figure } from "./plot.js";
import { term } from "./terms.js";
import { number, shortened, whole } from "./text.js";

export class RunningMean {
  constructor() {
    this.figure = figure("Outputs of the samples, and their running mean");
    this.table = element("dl", { class: "gap" });
    this.words = element("p", { class: "hint" });
    this.node = element("div", {}, this.figure.node, this.table, this.words);
  }

  /** Up to that sample; null is eval mode, where there are none. */
  draw(look, label, sample, target) {
    const of = (value) => (label === null ? value : value[label]);
    const evaluated = label === null ? look.eval_output.value : look.eval_output.probabilities[label];
    const { mean, std, standard_error: error } = Object.fromEntries(Object.entries(look.mc_output).map(([name, value]) => [name, of(value)]));
    const count = sample === null ? 0 : sample + 1;
    const outputs = look.outputs.slice(0, count).map(of);
    const running = look.running_mean.slice(0, count).map(of);
    const at = outputs.map((_, i) => i + 1);
    const everything = look.outputs.map(of).concat(evaluated);
    const [low, high] = [Math.min(...everything), Math.max(...everything)];
    const room = 0.06 * (high - low || Math.abs(high) || 1);
    draw(this.figure.plot, (theme) => ({
      traces: [
        { x: at, y: outputs, mode: "markers", name: "output of a sample", marker: { color: theme.muted, size: 4, opacity: 0.55 } },
        { x: at, y: running, mode: "lines", name: "running mean", line: { color: theme.accent, width: 2.5 } },
        { x: [1, look.n_samples], y: [evaluated, evaluated], mode: "lines", name: "eval mode (weight scaling)", line: { color: theme.second, width: 2, dash: "dash" } },
        { x: [1, look.n_samples], y: [mean, mean], mode: "lines", name: `MC mean of all ${look.n_samples}`, line: { color: theme.accent, width: 1.5, dash: "dot" } },
      ],
      layout: {
        height: 300, xaxis: { title: "samples drawn", range: [0, look.n_samples + 1] },
        yaxis: { title: label === null ? shortened(target, 28) : "probability", range: [low - room, high + room] },
      },
    })).catch((failure) => (this.figure.caption.textContent = failure.message));
    const gap = Math.abs(evaluated - mean);
    const isClear = gap > 2 * error;
    const what = label === null ? "" : ` The probability is that of ${label}.`;
    this.figure.caption.textContent = sample === null
      ? `Eval mode draws no samples: its output is the dashed line. Switch to train() to see the samples around it.${what}`
      : `After ${whole(count)} ${count === 1 ? "sample" : "samples"} the running mean is ${number(running.at(-1), 5)}.${what}`;
    const rows = [
      [[term("weight scaling", "Weight scaling"), " (eval mode)"], number(evaluated, 5), "eval-mean"],
      [`Monte Carlo averaging (${whole(look.n_samples)} samples)`, `${number(mean, 5)} ± ${number(error, 2)}`, "mc-mean"],
      ["Gap between both", number(gap, 3), "gap-value"],
      [[term("std", "Std"), " of the samples"], number(std, 3), "spread"],
    ];
    this.table.replaceChildren(
      ...rows.map(([term, value, name]) => element("div", { class: name }, element("dt", {}, term), element("dd", {}, value))),
    );
    this.words.replaceChildren(
      "± is one ", term("standard error"), " of the mean. ",
      isClear ? "The gap is more than two of them: the two ways of averaging differ for this row." : "The gap is within two of them: so many samples do not tell the two apart.",
    );
  }
}
