// The page Flow: dots that are deliveries, live figures, the route of a typed key, and slow motion.
import { isPaused, mark, number, onFrame, query, setQuery, state, valueAt } from "./page.js";
import { dots } from "./dots.js";
import { startMotion } from "./motion.js";

const stage = document.querySelector("[data-stage]");
const shapes = stage ? JSON.parse(stage.dataset.marks) : {};
const still = matchMedia("(prefers-reduced-motion: reduce)");
/** Below this number of dots per second, each delivery is a dot. */
const MOST_DOTS = 300;

function showFigures() {
  for (const element of stage.querySelectorAll("[data-value]")) {
    const text = number(valueAt(element.dataset.value));
    if (element.textContent !== text) element.textContent = text;
  }
  for (const badge of stage.querySelectorAll("[data-when]")) {
    badge.classList.toggle("none", !valueAt(badge.dataset.when));
  }
  for (const element of stage.querySelectorAll("[data-state]")) {
    const name = valueAt(element.dataset.state) || "stopped";
    if (element.classList.contains(name)) continue;
    element.setAttribute("class", `mark ${name}`);
    element.setAttribute("d", shapes[name] || shapes.stopped);
  }
  showLevels();
  for (const node of stage.querySelectorAll("[data-node]")) {
    const [kind, ...rest] = node.dataset.node.split(" ");
    const values = state[kind === "service" ? "services" : "queues"]?.[rest.join(" ")];
    const isBad = Boolean(values) && (kind === "service" ? values.state === "fatal" : Boolean(values.dead || values.unrouted || values.missing));
    const isWarn = Boolean(values) && (kind === "service" ? ["backoff", "waiting"].includes(values.state) : Boolean(values.growth));
    node.classList.toggle("bad", isBad);
    node.classList.toggle("warn", isWarn && !isBad);
  }
}

/** The bar of a queue is logarithmic, and full at 1,000 messages. */
function showLevels() {
  for (const bar of stage.querySelectorAll("[data-level$='/ready']")) {
    const path = bar.dataset.level.slice(0, -"/ready".length), whole = Number(bar.dataset.whole);
    const other = bar.nextElementSibling;
    const part = (count) => (count ? Math.min(1, Math.log10(count + 1) / 3) * whole : 0);
    const ready = valueAt(`${path}/ready`) || 0, unacked = valueAt(`${path}/unacked`) || 0;
    const all = part(ready + unacked), shown = ready + unacked ? (all * ready) / (ready + unacked) : 0;
    bar.setAttribute("width", shown.toFixed(1));
    other.setAttribute("x", (Number(bar.getAttribute("x")) + shown).toFixed(1));
    other.setAttribute("width", (all - shown).toFixed(1));
  }
}

/** Paths of given-up messages are shown only while messages use them. Busy edges are thick. */
function showEdges(isBusy) {
  for (const path of stage.querySelectorAll("[data-edge]")) {
    const rate = state.edges[path.dataset.edge] || 0;
    if (path.classList.contains("retry") || path.classList.contains("dead")) path.classList.toggle("none", !rate && !path.dataset.used);
    const width = isBusy || still.matches ? Math.min(5, 1.25 + Math.log10(1 + rate) * 1.4) : 0;
    path.style.strokeWidth = width && rate ? width.toFixed(2) : "";
  }
}

function showFacts() {
  const sum = (name) => Object.values(state.services).reduce((total, one) => total + (one[name] || 0), 0);
  const facts = { published: sum("published_rate").toFixed(1), handled: sum("handled_rate").toFixed(1), in_flight: number(sum("in_flight")) };
  for (const [name, text] of Object.entries(facts)) {
    const element = document.querySelector(`[data-fact="${name}"]`);
    if (element) element.textContent = text;
  }
}

function showSymptoms() {
  const list = document.querySelector("[data-symptoms]");
  const key = JSON.stringify(state.symptoms);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...state.symptoms.map((one) => {
    const item = document.createElement("li"), text = document.createElement("span"), shape = document.createElement("span");
    shape.className = one.level;
    shape.append(mark(one.mark));
    text.className = "grow";
    text.append(Object.assign(document.createElement("b"), { textContent: one.subject }), ` ${one.text}`);
    item.append(shape, text, Object.assign(document.createElement("a"), { href: one.href, textContent: one.link }));
    return item;
  }));
}

let asked = 0;
/** Light up exactly the bindings that `route` names for the typed key. */
async function showRoute() {
  const form = document.querySelector("[data-key-form]"), result = form.querySelector("[data-key-result]");
  const key = form.elements.key.value, exchange = form.elements.exchange.value;
  setQuery({ key, exchange: key ? exchange : "" });
  const turn = (asked += 1);
  let found = null;
  if (key) {
    const answer = await fetch(`/route.json?${new URLSearchParams({ exchange, key })}`).catch(() => null);
    found = answer?.ok ? await answer.json() : null;
  }
  if (turn !== asked) return;
  const edges = new Set(found ? found.edges : []);
  for (const path of stage.querySelectorAll("[data-edge]")) path.classList.toggle("match", edges.has(path.dataset.edge));
  const bindings = new Set((found ? found.bindings : []).map(([source, target, pattern]) => JSON.stringify([source, target, pattern])));
  for (const chip of stage.querySelectorAll("[data-key]")) {
    const node = chip.closest("[data-node]").dataset.node;
    chip.classList.toggle("match", bindings.has(JSON.stringify([`exchange ${chip.dataset.exchange}`, node, chip.dataset.key])));
  }
  result.hidden = !key;
  // Without a binding of the exchange itself, the message goes to the alternate exchange, or nowhere.
  const isMatched = Boolean(found) && found.bindings.some(([source]) => source === `exchange ${exchange}`);
  const count = bindings.size, others = found ? found.queues : [];
  result.className = `pill ${isMatched ? "accent" : "bad"}`;
  if (!found) result.textContent = "not known";
  else if (isMatched) result.textContent = `${count} ${count === 1 ? "binding matches" : "bindings match"}`;
  else result.textContent = others.length ? `no binding matches; goes to ${others.join(", ")}` : "no binding matches; the message is lost";
}

function selectNode(id) {
  setQuery({ node: id || "" });
  for (const target of stage.querySelectorAll("[data-target]")) target.classList.toggle("selected", target.dataset.target === id);
}

async function openNode(target) {
  selectNode(target.dataset.target);
  const { openMenu } = await import("./menu.js");
  openMenu(target.dataset.target, target);
}

function start() {
  const form = document.querySelector("[data-key-form]");
  let waiting = null;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(showRoute, 120); });
  form.addEventListener("submit", (event) => { event.preventDefault(); showRoute(); });
  if (query("key")) showRoute();
  stage.addEventListener("click", (event) => {
    const order = dots.orderAt(event);
    if (order) return void (location.href = `/orders/${encodeURIComponent(order)}`);
    const target = event.target.closest("[data-target]");
    if (target) openNode(target);
  });
  stage.addEventListener("pointermove", (event) => stage.classList.toggle("on-dot", Boolean(dots.orderAt(event))));
  stage.addEventListener("keydown", (event) => {
    const target = event.target.closest?.("[data-target]");
    if (target && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); openNode(target); }
  });
  if (query("node")) selectNode(query("node"));
  // A click on another node has already selected it.
  document.addEventListener("menu-closed", (event) => { if (event.detail === query("node")) selectNode(""); });
  document.addEventListener("regions", (event) => { if (event.detail.includes("files")) { dots.forget(); showRoute(); showFigures(); } });
  document.addEventListener("paused", (event) => dots.pause(event.detail));
  const isReplaying = Boolean(query("order"));
  dots.start(stage);
  dots.pause(isPaused());
  if (isReplaying) startMotion(query("order"), Number(query("slow") || 10));
  onFrame((frame) => {
    const moves = frame.steps ? frame.steps.moves.length : 0;
    const isBusy = Boolean(frame.more_steps) || moves > MOST_DOTS;
    showFigures();
    showEdges(isBusy);
    showFacts();
    showSymptoms();
    if (frame.steps && !isBusy && !isReplaying && !still.matches) dots.replay(frame, state.edgeNames);
    else dots.advance();
  });
}

if (stage) start();
else onFrame(showSymptoms);
