// Every page: the live stream, values that change in place, regions that are rendered again, pause and theme.
import { start as startActions } from "./actions.js";
import { answered, missed, start as startOutage, waitAgain } from "./outage.js";
import { start as startTimeline } from "./timeline.js";

/** The whole frame, to which each frame of the stream is added. */
export const state = { n: 0, slots: {}, services: {}, queues: {}, edges: {}, versions: {}, symptoms: [], timeline: [], edgeNames: [] };
// The first frame may be newer than the regions of the page.
Object.assign(state.versions, JSON.parse(document.body.dataset.versions));
const TABLES = ["slots", "services", "queues", "edges", "versions"];
const VALUES = ["title", "live", "runner", "symptoms", "facts", "fault_injection", "time", "n"];
/** Milliseconds that the first frame may take. */
const FIRST_FRAME = 5000;
const listeners = new Set();
let csrf = document.querySelector('meta[name="csrf-token"]').content;
let source = null, polling = null, retry = null, waiting = null, isWhole = false;

/** Call `listener(frame)` for the whole frame, and for each frame after it. */
export function onFrame(listener) {
  listeners.add(listener);
  if (state.n) listener({ ...state, full: true });
}

/** The headers of a change. */
export function headers() {
  return { "X-CSRF-Token": csrf };
}

/** Change query parameters of the address without loading the page. An empty value removes its parameter. */
export function setQuery(values) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value === "" || value === null || value === undefined) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  history.replaceState(history.state, "", url);
}

export function query(name) {
  return new URLSearchParams(location.search).get(name);
}

export function isPaused() {
  return query("paused") === "1";
}

/** Return a mark of the sprite as an element. */
export function mark(name, className = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `mark ${className}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#mark-${name}`);
  svg.append(use);
  return svg;
}

function merge(frame) {
  for (const name of TABLES) {
    if (frame.full) state[name] = frame[name] || {};
    else for (const [key, value] of Object.entries(frame[name] || {})) {
      if (value === null) delete state[name][key];
      else state[name][key] = value;
    }
  }
  for (const name of VALUES) if (name in frame) state[name] = frame[name];
  if (frame.full) {
    state.timeline = frame.timeline || [];
    state.edgeNames = frame.edge_names || [];
  } else {
    state.timeline = state.timeline.concat(frame.timeline || []).slice(-500);
    state.edgeNames = state.edgeNames.concat(frame.edge_names || []);
  }
}

function take(frame) {
  // A restarted dashboard counts its frames from 1 again, so the first frame of a connection must be a whole one.
  if (frame.full) isWhole = true;
  else if (!isWhole || frame.n > state.n + 1) return void load();
  else if (frame.n <= state.n) return;
  const versions = { ...state.versions }, isNew = frame.n !== state.n;
  merge(frame);
  if (isNew) answered(state.live === "ok");
  if (isPaused()) return showLive();
  show(frame, versions);
}

function show(frame, versions) {
  document.title = state.title || "FastCommerce";
  showLive();
  showBadges();
  showValues();
  for (const listener of listeners) listener(frame);
  const topics = Object.keys(state.versions).filter((name) => versions[name] !== undefined && versions[name] !== state.versions[name]);
  if (topics.length) refresh(topics);
}

/** Render regions again between two frames, because an edit of a file shows at once. */
function changed(versions) {
  const topics = Object.keys(versions).filter((name) => versions[name] !== state.versions[name]);
  Object.assign(state.versions, versions);
  if (topics.length && !isPaused()) refresh(topics);
}

function showLive(text) {
  const element = document.querySelector("[data-live]");
  const isLive = !text && state.live === "ok";
  const shown = text || (isPaused() ? "Paused" : isLive ? "Live, 1 s behind" : "No supervisor");
  const name = isPaused() ? "pause" : isLive ? "run" : text ? "wait" : "fatal";
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.className = `live ${isLive && !isPaused() ? "ok" : text ? "" : "bad"}`;
  element.replaceChildren(mark(name), Object.assign(document.createElement("span"), { textContent: shown }));
}

function showBadges() {
  const counts = {
    dead: Object.values(state.queues).reduce((sum, queue) => sum + (queue.dead || 0), 0),
    failed: Object.values(state.slots).filter((slot) => slot.state === "FATAL").length,
  };
  for (const [name, count] of Object.entries(counts)) {
    for (const badge of document.querySelectorAll(`[data-badge="${name}"]`)) {
      badge.textContent = count;
      badge.hidden = !count;
    }
  }
}

/** Return the value at a path such as `queues/payment.order.created/ready`. The name between may contain slashes. */
export function valueAt(path) {
  const first = path.indexOf("/"), last = path.lastIndexOf("/");
  return state[path.slice(0, first)]?.[path.slice(first + 1, last)]?.[path.slice(last + 1)];
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? value.toLocaleString("en-US") : value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds)), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  if (whole < 120) return `${whole} s`;
  if (minutes < 60) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** The forms of values that are no plain numbers, by the attribute data-form. */
const FORMS = {
  rate: (value) => (value > 0 && value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")),
  percent: (value) => `${value.toFixed(1)} %`,
  mebibytes: (value) => `${Math.round(value / 2 ** 20)} MiB`,
  since: (value) => span(state.time - value),
};

function showValues() {
  for (const element of document.querySelectorAll("[data-value]")) {
    const value = valueAt(element.dataset.value), form = FORMS[element.dataset.form];
    const text = form && typeof value === "number" ? form(value) : number(value);
    if (element.textContent !== text) element.textContent = text;
  }
}

/** Keep the answer that a person has chosen but not sent yet. */
function beforeAttributeUpdated(name, element) {
  return !(name === "checked" && element.type === "radio" && element.checked !== element.defaultChecked);
}

let refreshing = false, again = new Set();
/** Render the regions of some topics again, at most one request at a time. */
export async function refresh(topics) {
  const selector = topics.map((topic) => `[data-topic~="${topic}"]`).join(",");
  if (!document.querySelector(selector)) return;
  if (refreshing) return void topics.forEach((topic) => again.add(topic));
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // A focused field keeps what was typed. The text of a focused button changes with its region.
    const ignoreActiveValue = Boolean(document.activeElement?.matches("input, select, textarea"));
    for (const region of document.querySelectorAll(selector)) {
      const fresh = page.querySelector(`[data-region="${region.dataset.region}"]`);
      if (fresh) Idiomorph.morph(region, fresh, { ignoreActiveValue, restoreFocus: true, callbacks: { beforeAttributeUpdated } });
    }
    document.dispatchEvent(new CustomEvent("regions", { detail: topics }));
  } catch {
    // The stream reports that the dashboard is unreachable.
  } finally {
    refreshing = false;
    if (again.size) {
      const next = [...again];
      again = new Set();
      setTimeout(() => refresh(next), 300);
    }
  }
}

async function load() {
  try {
    const answer = await fetch("/live");
    if (!answer.ok) throw new Error(answer.statusText);
    const frame = await answer.json();
    csrf = frame.csrf;
    if (frame.n || frame.live !== "connecting") take(frame);
  } catch {
    lost();
  }
}

function lost() {
  const time = missed();
  showLive(time ? `Reconnecting, figures of ${time}` : "Connecting");
}

function connect() {
  clearTimeout(retry);
  if (document.hidden || source) return;
  waitAgain();
  source = new EventSource("/stream");
  source.addEventListener("open", () => { isWhole = false; load(); });
  source.addEventListener("frame", (event) => take(JSON.parse(event.data)));
  source.addEventListener("versions", (event) => changed(JSON.parse(event.data)));
  source.addEventListener("lost", load);
  source.addEventListener("error", () => {
    lost();
    if (!source || source.readyState !== EventSource.CLOSED) return;
    // The server refused the stream: too many pages are open. This page asks once a second, and tries again later.
    disconnect();
    polling = setInterval(load, 1000);
    retry = setTimeout(() => { clearInterval(polling); polling = null; connect(); }, 30000);
  });
}

function disconnect() {
  source?.close();
  source = null;
  clearInterval(polling);
  polling = null;
}

function togglePause(isOn) {
  setQuery({ paused: isOn ? "1" : "" });
  const button = document.querySelector("[data-pause]");
  button.setAttribute("aria-pressed", String(isOn));
  button.querySelector("span").textContent = isOn ? "Continue" : "Pause";
  button.querySelector("use").setAttribute("href", `#icon-${isOn ? "play" : "pause"}`);
  showLive();
  if (!isOn) {
    show({ ...state, full: true }, {});
    refresh(Object.keys(state.versions));
  }
  document.dispatchEvent(new CustomEvent("paused", { detail: isOn }));
}

document.querySelector("[data-pause]").addEventListener("click", () => togglePause(!isPaused()));
document.querySelector("[data-theme-switch]").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});
// A hidden page closes its stream, because a browser opens at most six connections to one server.
document.addEventListener("visibilitychange", () => {
  clearTimeout(waiting);
  if (document.hidden) waiting = setTimeout(disconnect, 1000);
  else connect();
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
if (isPaused()) togglePause(true);
// A stream without frames stays open, for example while the supervisor hangs.
startOutage(lost);
startActions();
startTimeline();
connect();
setTimeout(() => {
  if (!state.n) showLive("No answer from the dashboard for 5 s; check its log");
}, FIRST_FRAME);
