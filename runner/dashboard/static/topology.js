// The page Topology: the filter, the route tester and the comparison with the broker.
import { headers, refresh, setQuery } from "./page.js";

function afterPause(work) {
  let timer = null;
  return () => { clearTimeout(timer); timer = setTimeout(work, 200); };
}

const find = document.querySelector("[data-find]");
find.addEventListener("input", afterPause(() => { setQuery({ find: find.value.trim() }); refresh(["find"]); }));

const form = document.querySelector("[data-route]");
function showRoute() {
  const { exchange, key, header } = Object.fromEntries(new FormData(form));
  const isEmpty = !exchange && !key;
  setQuery({ exchange, key, header });
  // The default exchange has an empty name, which the address must contain.
  if (!exchange && !isEmpty) history.replaceState(history.state, "", `${location.pathname}${location.search}&exchange=`);
  refresh(["route"]);
}
form.addEventListener("input", afterPause(showRoute));
form.addEventListener("submit", (event) => { event.preventDefault(); showRoute(); });

document.querySelector("[data-compare]").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  button.setAttribute("aria-busy", "true");
  await fetch("/topology/plan", { method: "POST", headers: headers() }).catch(() => {});
  button.removeAttribute("aria-busy");
  refresh(["plan"]);
});
// A command that changes the broker or the running topology makes the plan outdated.
document.addEventListener("job", (event) => {
  if (/ (apply|reload)\b/.test(event.detail.command)) document.querySelector("[data-compare]").click();
});
