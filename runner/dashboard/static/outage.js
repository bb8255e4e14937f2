// A system that does not answer: the banner, grey figures, and a page that stays open until its server answers again.

/** Milliseconds without a frame of a running system until the banner appears. */
const PATIENCE = 3000;
const TICK = 500;
const banner = document.querySelector("[data-outage]");
const opened = Date.now();
let heard = 0, running = opened, waiting = opened, ticked = opened, isLost = false, reachable = "";

/** Note a frame, and whether it is one of a running system. */
export function answered(isRunning) {
  heard = Date.now();
  isLost = false;
  if (!isRunning) return;
  running = heard;
  banner.hidden = true;
  document.documentElement.removeAttribute("data-stale");
}

/** Note that the dashboard does not answer. Return the time of the last frame, or an empty text. */
export function missed() {
  isLost = true;
  document.documentElement.setAttribute("data-stale", "");
  return heard ? timeOf(heard) : "";
}

/** Give the dashboard time to answer again, because this page has just connected. */
export function waitAgain() {
  waiting = Date.now();
}

function timeOf(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

function show() {
  document.documentElement.setAttribute("data-stale", "");
  // A change of the text would make a screen reader read the banner again.
  if (!banner.hidden) return;
  banner.querySelector("time").textContent = timeOf(running);
  banner.hidden = false;
}

/** Go to a page if it answers. The browser's own error page would replace this page and its figures. */
async function leave(url) {
  try {
    await fetch(url, { method: "HEAD", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    return show();
  }
  reachable = url;
  location.href = url;
}

/** Call `onLost` while a connected page gets no frames. */
export function start(onLost) {
  setInterval(() => {
    const now = Date.now();
    // Neither the stream nor the timers work in a hidden page or a machine that sleeps.
    if (document.hidden || now - ticked > 4 * TICK) waiting = now;
    ticked = now;
    if (heard && now - Math.max(heard, waiting) > PATIENCE) onLost();
    if ((heard || isLost) && now - Math.max(running, waiting) > PATIENCE) show();
  }, TICK);
  // All links, rows and search forms of this page end here (WHATWG HTML, "navigate" event of the navigation API).
  window.navigation?.addEventListener("navigate", (event) => {
    const { url, sameDocument } = event.destination;
    const isOther = sameDocument || event.formData || event.downloadRequest !== null || new URL(url).origin !== location.origin;
    if (!isLost || !event.cancelable || isOther || url === reachable) return;
    event.preventDefault();
    leave(url);
  });
}
