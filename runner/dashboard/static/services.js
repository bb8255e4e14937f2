// The page Services: the filter of the table, and the log of a slot, which is read again once a second.
import "./menu.js";
import { isPaused, query, refresh, setQuery } from "./page.js";

const list = document.querySelector("[data-log]");
const words = document.querySelector("[data-log-words]");
const count = document.querySelector("[data-log-count]");
const followButton = document.querySelector("[data-log-follow]");
let seen = "", rows = [], timer = null, turn = 0, isFollowing = query("follow") !== "0";

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** Return a text as nodes in which each match is marked. */
function marked(text, wanted) {
  if (!wanted) return [text];
  const nodes = [], lower = text.toLowerCase();
  let start = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, start)) {
    nodes.push(text.slice(start, at), Object.assign(document.createElement("mark"), { textContent: text.slice(at, at + wanted.length) }));
    start = at + wanted.length;
  }
  nodes.push(text.slice(start));
  return nodes;
}

function item([time, slot, level, text], wanted) {
  const line = document.createElement("li"), name = document.createElement("span"), body = document.createElement("span");
  line.className = level;
  name.className = "log-slot";
  name.append(...marked(slot, wanted));
  body.append(...marked(text, wanted));
  line.append(Object.assign(document.createElement("time"), { textContent: clock(time) }), name, body);
  line.hidden = Boolean(wanted) && !`${slot} ${text}`.toLowerCase().includes(wanted);
  return line;
}

/** Show the lines. Lines that are shown already stay, so that a selection stays too. */
function draw(found, isNew) {
  const wanted = words.value.trim().toLowerCase();
  const keys = found.map((row) => JSON.stringify(row)), old = rows;
  let gone = isNew ? old.length : 0;
  while (gone < old.length && old.slice(gone).some((key, place) => key !== keys[place])) gone += 1;
  for (let number = 0; number < gone; number += 1) list.firstElementChild?.remove();
  list.append(...found.slice(old.length - gone).map((row) => item(row, wanted)));
  rows = keys;
  list.classList.toggle("is-one", new Set(found.map((row) => row[1])).size < 2 && Boolean(query("slot")));
  const shown = [...list.children].filter((line) => !line.hidden).length;
  count.textContent = wanted ? `${shown} of ${rows.length} lines` : "";
  if (isFollowing) list.scrollTop = list.scrollHeight;
}

function say(text) {
  rows = [];
  list.replaceChildren(Object.assign(document.createElement("li"), { className: "muted", textContent: text }));
}

let last = [];
async function load() {
  clearTimeout(timer);
  timer = null;
  const asked = (turn += 1);
  if (document.hidden) return;
  try {
    if (!isPaused()) {
      const parameters = new URLSearchParams({ slot: query("slot") || "" });
      // The browser sends the ETag of its copy, and gets the copy again if no line is new.
      const answer = await fetch(`/services/log?${parameters}`);
      const text = await answer.text();
      if (asked !== turn) return;
      if (answer.ok && text !== seen) {
        seen = text;
        const found = JSON.parse(text);
        if (found.problem) say(found.problem);
        else if (!found.lines.length) say("The log is empty. The lines that this service prints appear here.");
        else draw(found.lines, !rows.length && (list.replaceChildren(), true));
        last = found.lines;
      }
    }
  } catch {
    // The stream reports that the dashboard is unreachable.
  }
  if (asked === turn) timer = setTimeout(load, 1000);
}

function follow(isOn) {
  isFollowing = isOn;
  followButton.setAttribute("aria-pressed", String(isOn));
  setQuery({ follow: isOn ? "" : "0" });
  if (isOn) list.scrollTop = list.scrollHeight;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-log-of]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  setQuery({ slot: link.dataset.logOf });
  [seen, rows] = ["", []];
  list.replaceChildren();
  refresh(["services"]);
  load();
  document.querySelector(".log").scrollIntoView({ block: "nearest" });
});
document.querySelector("[data-find]").addEventListener("input", (event) => {
  setQuery({ find: event.target.value });
  refresh(["services"]);
});
words.addEventListener("input", () => {
  setQuery({ words: words.value });
  rows = [];
  list.replaceChildren();
  if (last.length) draw(last, true);
});
followButton.addEventListener("click", () => follow(!isFollowing));
list.addEventListener("scroll", () => {
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  if (isAtEnd !== isFollowing) follow(isAtEnd);
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
document.addEventListener("paused", load);
follow(isFollowing);
load();
