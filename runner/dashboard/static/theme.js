// Sets the theme before the first paint. A URL with ?theme=dark or ?theme=light overrides the stored choice.
const asked = new URLSearchParams(location.search).get("theme");
const stored = asked || localStorage.getItem("theme");
if (stored === "dark" || stored === "light") document.documentElement.dataset.theme = stored;
