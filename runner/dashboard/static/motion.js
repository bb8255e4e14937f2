// Slow motion: the recorded way of one order, step by step, with the reason of each move.
import { dots } from "./dots.js";

/** Milliseconds for one move along an edge, and the longest wait between two steps, at 1/10 of the real speed. */
const MOVE = 1400, LONGEST = 2500;

export async function startMotion(order, slow) {
  const panel = document.querySelector("[data-motion]"), list = panel.querySelector("[data-motion-steps]");
  const answer = await fetch(`/orders/${encodeURIComponent(order)}/motion`).catch(() => null);
  panel.hidden = false;
  const link = panel.querySelector("[data-motion-order]");
  link.textContent = order;
  link.href = `/orders/${encodeURIComponent(order)}`;
  if (!answer?.ok) {
    const problem = await answer?.json().catch(() => null);
    list.replaceChildren(Object.assign(document.createElement("li"), { textContent: problem?.detail || "the recorded steps cannot be read" }));
    return;
  }
  const { steps } = await answer.json();
  let current = -1, timer = null, isPlaying = false;

  function show(number) {
    current = number;
    const step = steps[number];
    panel.querySelector("[data-motion-time]").textContent = `step ${number + 1} of ${steps.length}, ${(step.at / 1000).toFixed(3)} s after the order`;
    for (const item of list.children) {
      const isCurrent = Number(item.dataset.step) === number;
      item.toggleAttribute("aria-current", isCurrent);
      if (isCurrent) item.scrollIntoView({ block: "nearest" });
    }
    dots.clear();
    for (const path of document.querySelectorAll("[data-edge].match")) path.classList.remove("match");
    let at = performance.now();
    for (const move of step.moves) {
      const path = document.querySelector(`[data-edge="${CSS.escape(move.edge)}"]`);
      path?.classList.add("match");
      path?.classList.remove("none");
      // The queues behind one exchange get their copies at the same time.
      const isCopy = move.edge.startsWith("exchange ");
      const end = dots.move(order, move.edge, at, MOVE);
      if (end !== null && !isCopy) at = end;
    }
  }

  function play(isOn) {
    isPlaying = isOn;
    clearTimeout(timer);
    panel.querySelector("[data-motion-play] span").textContent = isOn ? "Pause" : "Play";
    panel.querySelector("[data-motion-play] use").setAttribute("href", `#icon-${isOn ? "pause" : "play"}`);
    if (isOn) next();
  }

  function next() {
    if (current + 1 >= steps.length) return void play(false);
    show(current + 1);
    const following = steps[current + 1];
    const moving = MOVE * Math.max(1, steps[current].moves.filter((one) => !one.edge.startsWith("exchange ")).length + 1);
    const gap = following ? Math.min(LONGEST, (following.at - steps[current].at) * slow) : 0;
    if (isPlaying) timer = setTimeout(next, Math.max(moving, gap));
  }

  list.replaceChildren(...steps.map((step, number) => {
    const item = document.createElement("li");
    item.dataset.step = number;
    const time = Object.assign(document.createElement("time"), { textContent: `${(step.at / 1000).toFixed(3)} s` });
    const reasons = step.moves.map((move) => move.reason).filter(Boolean);
    item.append(time, Object.assign(document.createElement("b"), { textContent: step.text }));
    if (reasons.length) item.append(Object.assign(document.createElement("span"), { className: "muted", textContent: [...new Set(reasons)].join(" ") }));
    item.addEventListener("click", () => { play(false); show(number); });
    return item;
  }));
  panel.querySelector("[data-motion-play]").addEventListener("click", () => { if (!isPlaying && current + 1 >= steps.length) current = -1; play(!isPlaying); });
  panel.querySelector("[data-motion-next]").addEventListener("click", () => { play(false); show(Math.min(steps.length - 1, current + 1)); });
  panel.querySelector("[data-motion-back]").addEventListener("click", () => { play(false); show(Math.max(0, current - 1)); });
  play(true);
}
