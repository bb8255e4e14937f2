// Buttons that run a command line: the line beside the button, the question before it, and its output after it.
import { headers, mark } from "./page.js";

/** The words for a request that got no answer, in place of the browser's own. */
export const NO_ANSWER = "the dashboard does not answer";
/** Milliseconds for which the result of a successful command stays, and the output lines up to which it closes. */
const SHOWN = 8000, SHORT = 3;
let closing = null, opener = null, isRead = false;

function fieldsOf(element) {
  const fields = new URLSearchParams();
  for (const { name, value } of [...element.attributes]) {
    if (name.startsWith("data-field-")) fields.set(name.slice("data-field-".length).replaceAll("-", "_"), value);
  }
  const form = element.closest("form[data-fields]");
  if (form) for (const [name, value] of new FormData(form)) fields.set(name, value);
  return fields;
}

/** Ask in a dialog. Return a promise of the answer. */
export function ask(title, text, command, yes) {
  const dialog = document.querySelector("[data-dialog]");
  dialog.querySelector("[data-dialog-title]").textContent = title;
  dialog.querySelector("[data-dialog-text]").textContent = text;
  dialog.querySelector("[data-dialog-command]").textContent = command;
  dialog.querySelector("[data-dialog-yes]").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Run an action, and call `onJob(job)` for each state of its job until it ends. Return a promise of the last state. */
export async function act(name, fields, onJob = () => {}) {
  const failed = (text) => ({ state: "failed", command: "", lines: [text], exit_code: null });
  let answer = await fetch(`/actions/${name}`, { method: "POST", body: fields, headers: headers() }).catch(() => null);
  if (!answer?.ok) {
    const problem = answer ? await answer.json().catch(() => ({ detail: answer.statusText })) : { detail: NO_ANSWER };
    const job = failed(problem.detail || problem.title);
    onJob(job);
    return job;
  }
  let job = await answer.json();
  onJob(job);
  while (job.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    answer = await fetch(`/jobs/${job.id}`).catch(() => null);
    if (!answer) return { ...job, state: "failed", lines: [...job.lines, `${NO_ANSWER}, so the outcome of this command is unknown`] };
    if (!answer.ok) return { ...job, state: "failed", lines: ["the dashboard was restarted; see its log"] };
    job = await answer.json();
    onJob(job);
  }
  return job;
}

/** Interrupt a job as Ctrl-C does. */
export function stop(job) {
  return fetch(`/jobs/${job.id}/stop`, { method: "POST", headers: headers() });
}

/** Close the result. The focus returns to the button of its command if the result has it. */
function closeResult(place) {
  const hasFocus = place.contains(document.activeElement);
  clearTimeout(closing);
  isRead = false;
  place.hidden = true;
  if (hasFocus && opener?.isConnected) opener.focus();
}

/** Close the result after a while, but not while a person reads it (WCAG 2.2, 2.2.1). */
function closeLater(place) {
  clearTimeout(closing);
  closing = setTimeout(() => (isRead || place.contains(document.activeElement) ? closeLater(place) : closeResult(place)), SHOWN);
}

/** Show a job's command line and output. Esc closes it, and a short success closes by itself. */
export function showJob(job) {
  const place = document.querySelector("[data-result]");
  const held = place.contains(document.activeElement) ? document.activeElement.textContent : null;
  const names = { running: ["wait", "Running"], done: ["run", "Done"], failed: ["fatal", "Failed"] };
  const [shape, word] = names[job.state];
  const head = document.createElement("div");
  head.className = `result-head ${job.state}`;
  const close = Object.assign(document.createElement("button"), { className: "button small", type: "button", textContent: "Close" });
  close.addEventListener("click", () => closeResult(place));
  const code = Object.assign(document.createElement("code"), { textContent: job.command ? `$ ${job.command}` : "", title: job.command });
  head.append(mark(shape, job.state === "done" ? "ok" : job.state === "failed" ? "bad" : "accent"), word, code);
  if (job.state === "running") {
    const end = Object.assign(document.createElement("button"), { className: "button small", type: "button", textContent: "Stop" });
    end.addEventListener("click", () => stop(job));
    head.append(end);
  }
  head.append(close);
  const output = Object.assign(document.createElement("pre"), { textContent: job.lines.join("\n"), tabIndex: 0 });
  output.setAttribute("aria-label", "Output of the command");
  const parts = job.lines.length ? [head, output] : [head];
  if (job.link) {
    const line = Object.assign(document.createElement("p"), { className: "card-foot" });
    line.append(Object.assign(document.createElement("a"), { href: job.link.href, textContent: job.link.text }));
    parts.splice(1, 0, line);
  }
  place.replaceChildren(...parts);
  place.hidden = false;
  // The focus stays on the same button, or at least inside the result.
  if (held !== null) ([...head.querySelectorAll("button")].find((one) => one.textContent === held) || place).focus({ preventScroll: true });
  if (job.state === "done" && job.lines.length <= SHORT) closeLater(place);
  else clearTimeout(closing);
}

/** The number of the latest question about each form. */
const turns = new WeakMap();

/** Ask the server for the command lines of a form while a person edits its fields. */
export async function showCommands(form) {
  if (!form.checkValidity()) return;
  const shown = form.closest("[data-actions]")?.querySelector("[data-cli-text]"), turn = (turns.get(form) ?? 0) + 1;
  turns.set(form, turn);
  for (const button of form.querySelectorAll("[data-action]")) {
    const answer = await fetch(`/actions/${button.dataset.action}?${fieldsOf(button)}`).catch(() => null);
    const found = answer ? await answer.json().catch(() => ({})) : {};
    if (turns.get(form) !== turn) return;  // the fields have changed since
    const text = found.command || found.problem || "";
    // The line that is shown belongs to one of the buttons, and follows its button.
    if (shown && (shown.textContent === button.dataset.command || form.dataset.last === button.dataset.action)) shown.textContent = shown.title = text;
    button.dataset.command = text;
  }
}

export function start() {
  const waiting = new WeakMap();
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-fields]");
    if (!form) return;
    clearTimeout(waiting.get(form));
    waiting.set(form, setTimeout(showCommands, 150, form));
  });
  document.addEventListener("submit", (event) => { if (event.target.matches("form[data-fields]")) event.preventDefault(); });
  document.addEventListener("keydown", (event) => {
    const form = event.key === "Enter" && event.target.matches("input") && event.target.closest("form[data-fields]");
    if (form) {
      event.preventDefault();
      form.querySelector("[data-action]")?.click();
    }
  });
  const result = document.querySelector("[data-result]");
  // The result may open under a pointer that rests.
  result.addEventListener("pointermove", (event) => { isRead ||= Boolean(event.movementX || event.movementY); });
  result.addEventListener("pointerleave", () => { isRead = false; });
  result.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    closeResult(result);
  });
  // Menus, dialogs and the projector use the key first.
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) closeResult(result);
  });
  document.querySelectorAll("form[data-fields]").forEach(showCommands);
  // A region that is rendered again keeps the fields, but not the command lines that follow from them.
  document.addEventListener("regions", ({ detail: topics }) => {
    document.querySelectorAll(topics.map((topic) => `[data-topic~="${topic}"] form[data-fields]`).join(",")).forEach(showCommands);
  });
  const lines = (element) => {
    const command = element.closest?.("[data-command]")?.dataset.command;
    if (!command) return;
    const shown = element.closest("[data-actions]")?.querySelector("[data-cli-text]");
    if (shown) shown.textContent = shown.title = command;
    const button = element.closest("[data-action]"), form = button?.closest("form[data-fields]");
    if (form) form.dataset.last = button.dataset.action;
  };
  document.addEventListener("focusin", (event) => lines(event.target));
  document.addEventListener("pointerover", (event) => lines(event.target));
  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard?.writeText(copy.closest("[data-cli]").querySelector("[data-cli-text]").textContent).catch(() => {});
      const label = [...copy.childNodes].find((node) => node.nodeType === Node.TEXT_NODE);
      if (label) { label.textContent = "Copied"; setTimeout(() => { label.textContent = "Copy"; }, 1500); }
      return;
    }
    const button = event.target.closest("[data-action]");
    if (!button || button.disabled) return;
    const { action, command, ask: question } = button.dataset;
    const label = (button.textContent.trim() || button.title).replace("…", "");
    if (question && !(await ask(`${label}?`, question, command, label))) return;
    button.setAttribute("aria-busy", "true");
    opener = button;
    const job = await act(action, fieldsOf(button), showJob).catch((error) => ({ state: "failed", command, lines: [String(error)] }));
    showJob(job);
    button.removeAttribute("aria-busy");
    // A person who works elsewhere by now keeps the focus.
    const place = document.querySelector("[data-result]"), focused = document.activeElement;
    if (job.state === "failed" && (focused === button || focused === document.body)) place.focus({ preventScroll: true });
    // The page may have replaced the button while the command was running.
    const detail = { ...job, action, target: button.dataset.fieldTarget };
    (button.isConnected ? button : document).dispatchEvent(new CustomEvent("job", { detail, bubbles: true }));
  });
}
