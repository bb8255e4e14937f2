// The page Dead letters: the filter, the selection, replays with their progress, and the editor of a copy.
import { act, ask, showJob, stop } from "./actions.js";
import { mark, query, refresh, setQuery } from "./page.js";

const panel = document.querySelector("[data-letters-job]");
const part = (name) => panel.querySelector(`[data-job-${name}]`);
const selected = new Set();
/** The replay that the panel shows: its job, its fields, and what its earlier parts have replayed. */
let replay = null;

/** Change the address, and render the page again. */
function show(values) {
  setQuery(values);
  return refresh(["dead_letters"]);
}

/** Quote a word for a shell. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`;
}

// The selection. The page is rendered again after each change, so the selected ids are kept here.

function showSelection() {
  const boxes = [...document.querySelectorAll("[data-select]")];
  const here = new Set(boxes.map((box) => box.dataset.select));
  for (const id of selected) if (!here.has(id)) selected.delete(id);
  for (const box of boxes) box.checked = selected.has(box.dataset.select);
  const all = document.querySelector("[data-select-all]");
  if (!all) return;
  all.checked = boxes.length > 0 && selected.size === boxes.length;
  all.indeterminate = selected.size > 0 && selected.size < boxes.length;
  document.querySelector("[data-selected-count]").textContent = `${selected.size} selected`;
  for (const button of document.querySelectorAll("[data-of-selected]")) {
    button.disabled = !selected.size || replay?.job?.state === "running";
    button.setAttribute("data-field-ids", [...selected].join("\n"));
    button.dataset.command = [button.dataset.prefix, ...[...selected].map((id) => `--id ${quoted(id)}`)].join(" ");
  }
}

// A replay and its progress.

function fieldsOf(element) {
  const fields = new URLSearchParams();
  for (const { name, value } of element.attributes) {
    if (name.startsWith("data-field-")) fields.set(name.slice("data-field-".length).replaceAll("-", "_"), value);
  }
  return fields;
}

/** Return the last progress of a job, from lines such as `replaying: 54 of 84`. */
function progressOf(job) {
  const found = job.lines.findLast((line) => /^replaying: \d+ of \d+$/.test(line));
  const [done, total] = found ? found.match(/\d+/g).map(Number) : [0, 0];
  if (found) replay.total = replay.before + total;
  return { done: replay.before + done, total: replay.total, isKnown: replay.total > 0 };
}

function text(tag, content, className = "") {
  return Object.assign(document.createElement(tag), { textContent: content, className });
}

/** Return how long the rest takes, in words, or an empty text if it is unknown or short. */
function remaining(job, { done, total }) {
  const seconds = Date.now() / 1000 - job.began, rate = Number(replay.fields?.get("rate")) || (done - replay.before) / seconds;
  const left = rate > 0 ? (total - done) / rate : 0;
  if (left < 2) return "";
  return left < 120 ? `, about ${Math.round(left)} s left` : `, about ${Math.round(left / 60)} min left`;
}

function showReplay(job) {
  const progress = progressOf(job), isRunning = job.state === "running", isPaused = job.exit_code === 130;
  replay.job = job;
  const { title, before, total, began } = replay;
  if (isRunning && replay.fields) sessionStorage.setItem("replay", JSON.stringify({ id: job.id, title, before, total, began, fields: String(replay.fields) }));
  if (isRunning) for (const button of document.querySelectorAll("[data-replay]")) button.disabled = true;
  setQuery({ job: isRunning ? job.id : "" });
  panel.hidden = false;
  part("title").textContent = replay.title;
  const counts = progress.isKnown ? `${progress.done} of ${progress.total}` : "";
  const again = replay.again ? `, ${replay.again} failed again` : "";
  const words = isRunning ? `${counts || "Counting the messages"}${remaining(job, progress)}` : `${isPaused ? "Paused after " : ""}${counts}${again}`;
  part("text").textContent = words;
  // Screen readers announce the start and the end, but not each number.
  const status = isRunning ? "Replaying" : isPaused ? words : job.state === "done" ? `Done, ${words}` : "Failed";
  if (part("status").textContent !== status) part("status").textContent = status;
  part("progress").max = progress.total || 1;
  part("progress").value = progress.done;
  const label = isPaused ? "Continue" : "Pause";
  const button = part("pause");
  button.hidden = !isRunning && !(isPaused && replay.fields);
  button.querySelector("span").textContent = label;
  button.querySelector("use").setAttribute("href", `#icon-${isPaused ? "play" : "pause"}`);
  part("rate").disabled = !isPaused;
  if (isRunning) part("rate").value = replay.fields?.get("rate") || "";
  part("close").hidden = isRunning;
  const line = panel.querySelector("[data-cli-text]");
  line.textContent = line.title = job.command;
  const output = job.lines.filter((line) => !/^(replaying|counting): \d+ of \d+$/.test(line)).join("\n");
  part("output").textContent = output;
  part("output").hidden = isRunning || !output;
  part("output").classList.toggle("bad", job.state === "failed" && !isPaused);
  showLegend(progress);
}

function showLegend(progress) {
  // Green means success, so the mark is grey if a message has failed again.
  const entries = [["run", replay.again ? "off" : "ok", progress.done, "replayed"]];
  if (replay.again) entries.push(["dead", "bad", replay.again, "failed again"]);
  if (progress.total > progress.done) entries.push(["stop", "off", progress.total - progress.done, "not replayed yet"]);
  part("legend").replaceChildren(...entries.map(([shape, level, count, words]) => {
    const entry = text("span", "", "state");
    entry.append(mark(shape, level), text("b", count, "number"), words);
    return entry;
  }));
}

/** Count the messages of the shown replay that have failed again. */
async function countAgain() {
  if (!replay || replay.job?.state === "running") return;
  const { job, began } = replay;
  const answer = await fetch(`/dead-letters/again?since=${Math.floor(began * 1000)}`).catch(() => null);
  if (!answer?.ok) return;
  const { count } = await answer.json();
  if (!replay || replay.job !== job || !job) return;
  replay.again = count;
  showReplay(job);
}

async function runReplay(fields, title, { before = 0, total = 0, began = 0 } = {}) {
  fields.set("no_wait", "1");
  replay = { fields, title, before, total, began, again: 0, job: null };
  const job = await act("replay", fields, (state) => {
    replay.began ||= state.began || Date.now() / 1000;
    showReplay(state);
  }).catch((error) => ({ state: "failed", command: "", lines: [String(error)], exit_code: null }));
  showReplay(job);
  selected.clear();
  refresh(["dead_letters"]);
}

/** Pause a replay by stopping its command, or continue it without the messages that have failed again. */
function pauseOrContinue() {
  if (replay.job.state === "running") return void stop(replay.job);
  const fields = new URLSearchParams(replay.fields);
  fields.set("since", new Date(replay.began * 1000).toISOString());
  const rate = part("rate").value.trim();
  if (rate) fields.set("rate", rate);
  else fields.delete("rate");
  runReplay(fields, replay.title, { before: progressOf(replay.job).done, total: replay.total, began: replay.began });
}

/** Show the replay that was running when the page was loaded. */
async function resume(id) {
  const stored = JSON.parse(sessionStorage.getItem("replay") || "{}");
  const known = stored.id === id ? stored : { title: "Replay", before: 0, total: 0, began: 0 };
  replay = { ...known, fields: known.fields ? new URLSearchParams(known.fields) : null, again: 0, job: null };
  for (;;) {
    const answer = await fetch(`/jobs/${encodeURIComponent(id)}`).catch(() => null);
    if (!answer?.ok) return void setQuery({ job: "" });
    const job = await answer.json();
    replay.began ||= job.began;
    showReplay(job);
    if (job.state !== "running") break;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  refresh(["dead_letters"]);
}

// The editor of a copy.

function isJson(value) {
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}

async function edit(button) {
  const dialog = document.querySelector("[data-letters-edit]");
  const [area, check, yes] = ["body", "check", "yes"].map((name) => dialog.querySelector(`[data-edit-${name}]`));
  const place = new URLSearchParams({ id: button.dataset.edit, queue: button.dataset.editQueue });
  const answer = await fetch(`/dead-letters/body?${place}`);
  const problem = answer.ok ? "" : (await answer.json().catch(() => ({}))).detail || answer.statusText;
  area.value = answer.ok ? await answer.text() : "";
  area.disabled = !answer.ok;
  const mustBeJson = isJson(area.value) && /^\s*[[{]/.test(area.value);
  area.oninput = () => {
    const words = problem || (mustBeJson && !isJson(area.value) ? "Not JSON. The original body is JSON, so the copy must be JSON too." : "");
    yes.disabled = Boolean(words);
    check.replaceChildren(...(words ? [mark("fatal"), words] : []));
  };
  area.oninput();
  dialog.querySelector("[data-edit-command]").textContent = button.dataset.command;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  const fields = fieldsOf(button);
  fields.set("body", area.value);
  await act("replay-copy", fields, showJob).catch((error) => showJob({ state: "failed", command: "", lines: [String(error)] }));
  refresh(["dead_letters"]);
}

/** Render the list again in a second if it may still change. */
let asking = null;
function askAgain() {
  if (!document.querySelector("[data-outdated]")) return;
  asking ??= setTimeout(() => {
    asking = null;
    refresh(["dead_letters"]);
  }, 1000);
}

// The events of the page.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-replay], [data-edit]");
  const link = event.target.closest("a[data-letters-link]");
  if (button && !button.disabled) {
    if ("edit" in button.dataset) return void edit(button);
    const { question, command, replay: title } = button.dataset;
    if (question && !(await ask(`${title}?`, question, command, "Replay"))) return;
    runReplay(fieldsOf(button), title);
  } else if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    const url = new URL(link.href);
    for (const name of ["theme", "paused", "job"]) if (query(name) !== null) url.searchParams.set(name, query(name));
    history.pushState(null, "", url);
    refresh(["dead_letters"]);
  }
});

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches("[data-select]")) box.checked ? selected.add(box.dataset.select) : selected.delete(box.dataset.select);
  else if (box.matches("[data-select-all]")) {
    for (const one of document.querySelectorAll("[data-select]")) box.checked ? selected.add(one.dataset.select) : selected.delete(one.dataset.select);
  } else if (box.matches("[data-letters-include]")) return void show({ again: box.checked ? "1" : "" });
  else if (box.matches("[data-letters-rate]")) return void show({ rate: box.value.trim() });
  else if (box.matches("[data-letters-filter] select")) return void show({ queue: box.value, group: "", message: "" });
  else return;
  showSelection();
});

let typing = null;
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-letters-filter] input")) return;
  clearTimeout(typing);
  typing = setTimeout(() => show({ text: event.target.value.trim() }), 300);
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-letters-filter]")) event.preventDefault();
});
document.addEventListener("regions", () => {
  showSelection();
  countAgain();
  askAgain();
});
document.addEventListener("job", () => {
  selected.clear();
  refresh(["dead_letters"]);
});
addEventListener("popstate", () => refresh(["dead_letters"]));
part("pause").addEventListener("click", pauseOrContinue);
part("close").addEventListener("click", () => {
  replay = null;
  panel.hidden = true;
});
showSelection();
askAgain();
if (query("job")) resume(query("job"));
