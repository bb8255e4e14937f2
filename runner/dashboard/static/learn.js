// The page Learn: each save is checked while the page is open, and the projector is moved with the keyboard.
import { headers, isPaused, refresh } from "./page.js";
import { showJob } from "./actions.js";

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

document.addEventListener("click", async (event) => {
  if (!event.target.closest("[data-check]")) return;
  const answer = await post("/check").catch((error) => ({ ok: false, json: async () => ({ detail: String(error) }) }));
  if (answer.ok) refresh(["learn"]);
  else showJob({ state: "failed", command: "", lines: [(await answer.json()).detail] });
});

document.addEventListener("job", (event) => {
  const { action, state, target } = event.detail;
  if (state !== "done") return;
  // The page itself shows the answer of these commands.
  if (action !== "learn_solution" && action !== "learn_reset") document.querySelector("[data-result]").hidden = true;
  if (action === "learn_start") location.href = `/learn/${target}`;
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
