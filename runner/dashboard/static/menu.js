// The menus of nodes and slots: opened beside a node, filled by the server, closed by Esc.
import { showCommands } from "./actions.js";

const GAP = 10;
let menu = null, anchor = null, node = "", isBelow = false;

async function htmlOf(id) {
  const answer = await fetch(`/menu?${new URLSearchParams({ node: id })}`, { headers: { Accept: "text/html" } });
  if (answer.ok) return answer.text();
  const problem = await answer.json().catch(() => ({}));
  const text = document.createElement("p");
  text.textContent = problem.detail || answer.statusText;
  return text.outerHTML;
}

/** Put the menu beside its node where there is room, and never over the node. */
function place() {
  if (!menu || !anchor.isConnected) return;
  const box = anchor.getBoundingClientRect(), width = menu.offsetWidth, height = menu.offsetHeight;
  const room = { width: document.documentElement.clientWidth, height: window.innerHeight };
  let left, top;
  if (!isBelow && box.right + GAP + width <= room.width - GAP) [left, top] = [box.right + GAP, box.top];
  else if (!isBelow && box.left - GAP - width >= GAP) [left, top] = [box.left - GAP - width, box.top];
  else {
    left = Math.min(isBelow ? box.right - width : box.left, room.width - GAP - width);
    top = box.bottom + GAP;
    // A menu that would leave the window at its end opens above its node, if there is more room.
    if (top + height > room.height && box.top - GAP - height >= 0) top = box.top - GAP - height;
  }
  menu.style.left = `${Math.max(GAP, left) + scrollX}px`;
  menu.style.top = `${top + scrollY}px`;
}

/**
 * Open the menu of a node, such as `service payment`, beside an element, which gets the focus again afterwards. A menu
 * of a table's row opens below its button.
 */
export async function openMenu(id, element, { below = false } = {}) {
  const html = await htmlOf(id);
  closeMenu(false);
  [node, anchor, isBelow] = [id, element, below];
  menu = document.createElement("section");
  menu.className = "card menu";
  menu.dataset.actions = "";
  menu.setAttribute("role", "dialog");
  menu.setAttribute("aria-label", `Actions on ${id}`);
  // The server escapes all names. The document of the answer runs no script.
  menu.append(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  document.body.append(menu);
  anchor.setAttribute("aria-expanded", "true");
  place();
  menu.querySelectorAll("form[data-fields]").forEach(showCommands);
  (menu.querySelector(".menu-row .button") || menu.querySelector(".button"))?.focus({ preventScroll: true });
  menu.scrollIntoView({ block: "nearest" });
}

/** Close the menu. The focus returns to its node, unless another element has it. The event "menu-closed" follows. */
export function closeMenu(hasFocus = true) {
  if (!menu) return;
  menu.remove();
  menu = null;
  anchor.removeAttribute("aria-expanded");
  if (hasFocus && anchor.isConnected) anchor.focus();
  document.dispatchEvent(new CustomEvent("menu-closed", { detail: node }));
}

function isOutside(target) {
  return menu && !menu.contains(target) && !anchor.contains(target) && !target.closest?.("[data-dialog], [data-result]");
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-menu]");
  if (opener) {
    if (menu && anchor === opener) closeMenu();
    else openMenu(opener.dataset.menu, opener, { below: "menuBelow" in opener.dataset });
  } else if (event.target.closest("[data-menu-close]")) closeMenu();
  else if (isOutside(event.target)) closeMenu(false);
});
document.addEventListener("focusin", (event) => { if (isOutside(event.target)) closeMenu(false); });
document.addEventListener("keydown", (event) => {
  if (!menu || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    event.preventDefault();
    closeMenu();
  } else if (["ArrowRight", "ArrowLeft"].includes(event.key) && menu.contains(event.target) && event.target.matches(".button")) {
    const buttons = [...menu.querySelectorAll(".button")], step = event.key === "ArrowRight" ? 1 : -1;
    buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length].focus();
    event.preventDefault();
  }
});
// After an action, the menu shows the new number of instances, and whether the service can be started or stopped.
document.addEventListener("job", async () => {
  if (!menu) return;
  const [shown, id] = [menu, node];
  const html = await htmlOf(id);
  if (menu !== shown) return;
  const command = menu.querySelector("[data-cli-text]")?.textContent;
  // A form keeps what the person has typed.
  const callbacks = { beforeNodeMorphed: (old) => !(old instanceof HTMLFormElement) };
  Idiomorph.morph(menu, html, { morphStyle: "innerHTML", callbacks });
  const line = menu.querySelector("[data-cli-text]");
  if (line && command) line.textContent = line.title = command;
});
addEventListener("resize", place);
