// Runs before the first paint, as a classic script: a dark page must not flash white.
(function () {
  try {
    const theme = localStorage.getItem("ers-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's scheme is right then.
  }
})();
