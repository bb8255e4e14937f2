// The timeline under every page: what happened in the selected time, and the rate of messages.
import { isPaused, mark, onFrame, query, setQuery, state } from "./page.js";

const MARKS = {
  started: ["run", "ok"], stopped: ["stop", "off"], crashed: ["fatal", "bad"], restarting: ["restart", "warn"], fatal: ["fatal", "bad"],
  scaled: ["flag", "off"], reloaded: ["flag", "off"], refused: ["fatal", "bad"], fault: ["flag", "warn"], command: ["flag", "off"], broker: ["restart", "warn"],
};
const SPACE = "http://www.w3.org/2000/svg";
/** The kinds of events from the worst to the most ordinary. */
const WORST_FIRST = ["fatal", "crashed", "refused", "fault", "broker", "restarting", "reloaded", "scaled", "command", "stopped", "started"];
/** The width of a character of a label, in pixels. */
const CHARACTER = 6.6;
const samples = [];

function shape(name, attributes, text) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function rank(entry) {
  return WORST_FIRST.indexOf(entry.kind);
}

/** The label of an event: what a command did, or what happened to a slot. */
function labelOf(entry) {
  const isCommand = ["command", "fault", "reloaded", "scaled", "refused", "broker"].includes(entry.kind);
  return (isCommand ? entry.text : `${entry.subject} ${entry.kind}`).slice(0, 40);
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

function chosen() {
  const words = (query("events") || "").toLowerCase();
  const since = Number(query("since") || 0);
  const range = Number(query("range") || 600);
  const now = state.time || Date.now() / 1000;
  return {
    now, range,
    entries: state.timeline.filter((one) => one.time > Math.max(since, now - range) && `${one.kind} ${one.subject} ${one.text}`.toLowerCase().includes(words)),
  };
}

function draw() {
  const { now, range, entries } = chosen();
  const chart = document.querySelector("[data-timeline-chart]");
  const width = Math.max(300, chart.clientWidth), began = now - range;
  chart.setAttribute("viewBox", `0 0 ${width} 62`);
  const at = (time) => ((time - began) / range) * (width - 8);
  const parts = [];
  const shown = samples.filter((one) => one.time >= began);
  if (shown.length > 1) {
    const top = Math.max(1, ...shown.map((one) => one.rate));
    const points = shown.map((one) => `${at(one.time).toFixed(1)},${(46 - (26 * one.rate) / top).toFixed(1)}`);
    parts.push(shape("polygon", { class: "timeline-area", points: `${at(shown[0].time).toFixed(1)},46 ${points.join(" ")} ${at(shown.at(-1).time).toFixed(1)},46` }));
  }
  parts.push(shape("line", { class: "timeline-line", x1: 0, x2: width - 8, y1: 46.5, y2: 46.5 }));
  for (let number = 0; number <= 5; number += 1) {
    const time = began + (range * number) / 5;
    parts.push(shape("text", { class: number === 5 ? "end" : number ? "middle" : "", x: at(time).toFixed(1), y: 60 }, range < 300 || number === 5 ? clock(time) : clock(time).slice(0, 5)));
  }
  // Events whose marks would touch become one mark, which shows the worst of them.
  const groups = [];
  for (const one of entries) {
    const x = at(one.time), group = groups.at(-1);
    if (!group || x >= group.x + 14) groups.push({ x, worst: one, count: 0 });
    else {
      group.count += 1;
      if (rank(one) < rank(group.worst)) group.worst = one;
      parts.push(shape("line", { class: "timeline-tick", x1: x, x2: x, y1: 38, y2: 46 }));
    }
  }
  const taken = groups.map(({ x }) => [x - 7, x + 7]);
  for (const { x, worst, count } of [...groups].sort((one, other) => rank(one.worst) - rank(other.worst) || other.x - one.x)) {
    const [name, level] = MARKS[worst.kind] || MARKS.command;
    parts.push(shape("use", { href: `#mark-${name}`, x: x - 6, y: 3, width: 12, height: 12, class: level }));
    parts.push(shape("line", { class: "timeline-tick", x1: x, x2: x, y1: 18, y2: 46 }));
    // Labels must not touch each other or a mark. The worst events get their labels first, and the list below has all.
    const label = labelOf(worst) + (count ? ` and ${count} more` : ""), length = CHARACTER * label.length;
    const side = [[x + 10, x + 10 + length], [x - 10 - length, x - 10]].find(([left, right]) =>
      left >= 0 && right <= width && taken.every(([begin, end]) => right <= begin || left >= end));
    if (!side) continue;
    const isLeft = side[0] < x;
    parts.push(shape("text", { class: isLeft ? "end" : "", x: isLeft ? x - 10 : x + 10, y: 13 }, label));
    taken.push([side[0] - 6, side[1] + 6]);
  }
  chart.replaceChildren(...parts);
  const list = document.querySelector("[data-timeline-list]");
  const items = entries.slice(-30).reverse().map((one) => {
    const [name, level] = MARKS[one.kind] || MARKS.command;
    const item = document.createElement("li");
    const subject = Object.assign(document.createElement("b"), { textContent: one.subject });
    const time = Object.assign(document.createElement("time"), { textContent: clock(one.time) });
    item.append(time, mark(name, level), subject, ` ${one.text}`);
    return item;
  });
  if (!items.length) items.push(Object.assign(document.createElement("li"), { className: "muted", textContent: "Nothing has happened in this time. Starts, crashes, reloads and commands appear here." }));
  list.replaceChildren(...items);
}

export function start() {
  const filter = document.querySelector("[data-timeline-filter]"), range = document.querySelector("[data-timeline-range]");
  filter.value = query("events") || "";
  range.value = query("range") || "600";
  filter.addEventListener("input", () => { setQuery({ events: filter.value }); draw(); });
  range.addEventListener("change", () => { setQuery({ range: range.value === "600" ? "" : range.value }); draw(); });
  document.querySelector("[data-timeline-clear]").addEventListener("click", () => { setQuery({ since: Math.floor(state.time || Date.now() / 1000) }); draw(); });
  onFrame((frame) => {
    const rate = Object.entries(state.edges).filter(([name]) => name.startsWith("service ")).reduce((sum, [, value]) => sum + value, 0);
    samples.push({ time: frame.time || state.time, rate });
    if (samples.length > 3600) samples.shift();
    if (!isPaused()) draw();
  });
}
