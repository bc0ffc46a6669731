/** Light, dark, or as the system has it. */
const NAME = "aragora-theme";
const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function theme(): Theme {
  try {
    const kept = localStorage.getItem(NAME);
    return THEMES.find((each) => each === kept) ?? "system";
  } catch {
    return "system";
  }
}

export function applyTheme(chosen: Theme = theme()): void {
  document.documentElement.dataset.theme = chosen;
}

/** Takes the next one, and keeps it. */
export function nextTheme(): Theme {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length] ?? "system";
  try {
    localStorage.setItem(NAME, next);
  } catch {
    // then it lasts until the next reload
  }
  applyTheme(next);
  return next;
}
