// Buttons that run a command line: the line beside the button, the question before it, and its output after it.
import { headers, mark } from "./page.js";

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
  let answer = await fetch(`/actions/${name}`, { method: "POST", body: fields, headers: headers() });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    const job = { state: "failed", command: "", lines: [problem.detail || problem.title], exit_code: null };
    onJob(job);
    return job;
  }
  let job = await answer.json();
  onJob(job);
  while (job.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    answer = await fetch(`/jobs/${job.id}`);
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

/** Show a job's command line and output. It stays until the reader closes it. */
export function showJob(job) {
  const place = document.querySelector("[data-result]");
  const names = { running: ["wait", "Running"], done: ["run", "Done"], failed: ["fatal", "Failed"] };
  const [shape, word] = names[job.state];
  const head = document.createElement("div");
  head.className = `result-head ${job.state}`;
  const close = Object.assign(document.createElement("button"), { className: "button small", type: "button", textContent: "Close" });
  close.addEventListener("click", () => { place.hidden = true; });
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
  place.replaceChildren(head, ...(job.lines.length ? [output] : []));
  place.hidden = false;
}

/** Ask the server for the command lines of a form while a person edits its fields. */
export async function showCommands(form) {
  if (!form.checkValidity()) return;
  const shown = form.closest("[data-actions]")?.querySelector("[data-cli-text]");
  for (const button of form.querySelectorAll("[data-action]")) {
    const answer = await fetch(`/actions/${button.dataset.action}?${fieldsOf(button)}`).catch(() => null);
    const found = answer ? await answer.json().catch(() => ({})) : {};
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
  document.querySelectorAll("form[data-fields]").forEach(showCommands);
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
    const job = await act(action, fieldsOf(button), showJob).catch((error) => ({ state: "failed", command, lines: [String(error)] }));
    showJob(job);
    button.removeAttribute("aria-busy");
    // The page may have replaced the button while the command was running.
    const detail = { ...job, action, target: button.dataset.fieldTarget };
    (button.isConnected ? button : document).dispatchEvent(new CustomEvent("job", { detail, bubbles: true }));
  });
}
