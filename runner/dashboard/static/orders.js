// The pages about orders: links that change the page in place, rows that are links, and arrow keys in the swimlane.
import { refresh, setQuery } from "./page.js";

const PARAMETERS = ["step", "tab", "scale"];
let trailing = null, isTrailing = false;

/** Go to the state of a link of this page, and render only the parts that change. */
async function show(link) {
  const target = new URL(link.href).searchParams;
  setQuery(Object.fromEntries(PARAMETERS.map((name) => [name, target.get(name)])));
  await refresh(["step"]);
}

function isPlain(event) {
  return event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
}

document.addEventListener("click", (event) => {
  if (!isPlain(event) || event.defaultPrevented) return;
  const here = event.target.closest("a[data-here]");
  if (here) {
    event.preventDefault();
    show(here.href instanceof SVGAnimatedString ? { href: new URL(here.href.baseVal, location.href).href } : here);
    return;
  }
  // A selection of text in a row must not follow its link.
  if (event.target.closest("a, button, input") || String(getSelection())) return;
  event.target.closest("tr[data-link]")?.querySelector("a")?.click();
});

/** Return the bar to which an arrow key leads: beside it in its row, or the nearest bar of the next row. */
function neighbour(target, key) {
  const all = [...target.ownerSVGElement.querySelectorAll("a.target")];
  const place = (one) => Number(one.dataset.x);
  const row = Number(target.dataset.row);
  if (key === "Home" || key === "End") return key === "Home" ? all[0] : all.at(-1);
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const own = all.filter((one) => Number(one.dataset.row) === row).sort((a, b) => place(a) - place(b));
    return own[own.indexOf(target) + (key === "ArrowRight" ? 1 : -1)];
  }
  const rows = [...new Set(all.map((one) => Number(one.dataset.row)))].sort((a, b) => a - b);
  const next = rows[rows.indexOf(row) + (key === "ArrowDown" ? 1 : -1)];
  const distance = (one) => Math.abs(place(one) - place(target));
  return all.filter((one) => Number(one.dataset.row) === next).sort((a, b) => distance(a) - distance(b))[0];
}

document.addEventListener("keydown", (event) => {
  const target = event.target.closest?.("[data-swimlane] a.target");
  if (!target || !["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  const next = neighbour(target, event.key);
  if (!next) return;
  next.focus();
  next.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
});

// The history is written a moment after the step that the stream reports, so the page reads the last steps again.
document.addEventListener("regions", (event) => {
  if (!event.detail.includes("orders") || isTrailing) return;
  clearTimeout(trailing);
  trailing = setTimeout(async () => {
    isTrailing = true;
    await refresh(["orders"]);
    isTrailing = false;
  }, 1500);
});
