// The page Learn: each save is checked while the page is open, and the projector is moved with the keyboard.
import { headers, isPaused, refresh } from "./page.js";
import { NO_ANSWER, showJob } from "./actions.js";

const WATCH_MS = 500;
const lesson = document.querySelector("[data-exercise]");
const address = lesson && `/learn/${lesson.dataset.exercise}`;
let version = document.querySelector("[data-version]")?.dataset.version;

async function post(path) {
  return fetch(`${address}${path}${location.search}`, { method: "POST", headers: headers() });
}

async function watch() {
  if (!document.hidden && !isPaused()) {
    const answer = await post("/watch").catch(() => null);
    const state = answer?.ok ? await answer.json() : null;
    if (state && state.version !== version) {
      version = state.version;
      await refresh(["learn"]);
    }
  }
  setTimeout(watch, WATCH_MS);
}
if (lesson) watch();

// A command takes some seconds, because it starts a process. Meanwhile its button says what happens.
const BUSY = {
  learn_start: "Starting the exercise …", learn_predict: "Storing the prediction …", learn_review: "Storing the answer …",
  learn_hint: "Reading the hint …", learn_solution: "Reading the solution …", learn_reset: "Restoring the files …",
};
new MutationObserver((changes) => {
  for (const { target } of changes) {
    const text = BUSY[target.dataset.action], label = target.dataset.label;
    if (text && target.hasAttribute("aria-busy")) {
      target.dataset.label = label ?? target.textContent;
      target.textContent = text;
    } else if (text && label) {
      target.textContent = label;
      delete target.dataset.label;
    }
  }
}).observe(document.body, { subtree: true, attributeFilter: ["aria-busy"] });

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-check]");
  if (!button) return;
  button.lastChild.textContent = "Checking …";
  const answer = await post("/check").catch(() => ({ ok: false, json: async () => ({ detail: NO_ANSWER }) }));
  // A refused check changes nothing on the server, but the label must return.
  refresh(["learn"]);
  if (!answer.ok) showJob({ state: "failed", command: "", lines: [(await answer.json()).detail] });
});

document.addEventListener("job", (event) => {
  const { action, state, target } = event.detail;
  if (state !== "done") return;
  // The page itself shows the answer of these commands.
  if (action !== "learn_solution" && action !== "learn_reset") document.querySelector("[data-result]").hidden = true;
  // The page of the started exercise is not loaded again, because it may already show the question.
  if (action === "learn_start" && parseInt(lesson?.dataset.exercise) !== Number(target)) location.href = `/learn/${target}`;
  else refresh(["learn"]);
});

const KEYS = {
  ArrowRight: "next", PageDown: "next", " ": "next", ArrowLeft: "previous", PageUp: "previous", Escape: "leave",
};
if (document.body.dataset.page === "projector") {
  document.addEventListener("keydown", (event) => {
    const name = KEYS[event.key];
    const isUsed = event.key === " " && event.target.closest("a, button");
    if (!name || isUsed || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    document.querySelector(`[data-${name}]`)?.click();
  });
}
