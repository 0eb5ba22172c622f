// Light, dark, or what the system says. The choice is this browser's alone.
import { fill, icon } from "./dom.js";

const KEY = "ers-theme";
const ORDER = ["system", "light", "dark"];

export function currentTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
  document.dispatchEvent(new CustomEvent("themechange"));
}

/** Makes `button` step through system, light and dark. */
export function wireThemeButton(button) {
  const show = () => {
    const theme = currentTheme();
    const next = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    fill(button, icon(theme));
    button.setAttribute("aria-label", `Colour scheme: ${theme}. Switch to ${next}.`);
    button.title = `Colour scheme: ${theme}`;
  };
  button.addEventListener("click", () => {
    choose(ORDER[(ORDER.indexOf(currentTheme()) + 1) % ORDER.length]);
    show();
  });
  show();
}

/** Calls `listener` whenever the effective colours may have changed; returns the way to stop. */
export function onThemeChange(listener) {
  const media = matchMedia("(prefers-color-scheme: dark)");
  document.addEventListener("themechange", listener);
  media.addEventListener("change", listener);
  return () => {
    document.removeEventListener("themechange", listener);
    media.removeEventListener("change", listener);
  };
}
