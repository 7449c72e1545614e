// Before the first paint: the theme chosen earlier, else the system's.
const chosen = localStorage.getItem("azr-theme");
const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : system;
