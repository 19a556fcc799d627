/* What the back office adds to its pages. No dependency but Chart.js, where the theme brings it. */
"use strict";

// The CSP build of Alpine looks names up among registered components only, not on the window.
document.addEventListener("alpine:init", () => {
  const { theme, getCurrentTab } = window;
  if (!theme) return;
  window.Alpine.data("theme", (chosen) => {
    const made = theme(chosen);
    made.getCurrentTab = getCurrentTab;
    return made;
  });
});

const isTyping = () => ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement.tagName);

/* --- Copying an id ------------------------------------------------------------------------------ */
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  event.preventDefault();
  event.stopPropagation();
  navigator.clipboard?.writeText(button.dataset.copy).then(() => {
    button.classList.add("k-copied");
    setTimeout(() => button.classList.remove("k-copied"), 1200);
  }, () => {});
}, true);

/* --- Rows: a click anywhere opens; j and k walk, Enter opens -------------------------------------- */
const openRow = (row) => row?.querySelector("a[href]")?.click();

document.addEventListener("click", (event) => {
  const row = event.target.closest(".k-rows tbody tr");
  if (!row || event.target.closest("a, button, input, label") || String(getSelection())) return;
  openRow(row);
});

const walk = (step) => {
  const rows = [...document.querySelectorAll(".k-rows tbody tr")];
  const at = rows.findIndex((row) => row.classList.contains("k-at"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
  rows[at]?.classList.remove("k-at");
  next?.classList.add("k-at");
  next?.scrollIntoView({ block: "nearest" });
};

// On a small screen the theme keeps the menu shut, and the field stands in the menu.
const openFind = () => {
  const find = document.getElementById("k-search-text");
  if (find?.offsetParent) find.focus();
  else {
    document.querySelector("[data-menu]")?.click();
    // The theme shows what it opens a little later.
    setTimeout(() => find?.focus(), 60);
  }
};

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "k") {
    event.preventDefault();
    openFind();
    return;
  }
  // Enter in a text field of an act never sends it: one means the button.
  if (event.key === "Enter" && event.target.matches("#act-form input")) event.preventDefault();
  if (isTyping() || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    event.stopImmediatePropagation();
    const bar = document.getElementById("searchbar");
    if (bar) bar.focus();
    else openFind();
  } else if (event.key === "j" || event.key === "k") walk(event.key === "j" ? 1 : -1);
  else if (event.key === "Enter" && document.activeElement === document.body) openRow(document.querySelector(".k-at"));
  else if (event.key === "?") {
    event.stopImmediatePropagation();
    document.getElementById("k-shortcuts")?.showModal();
  }
}, true);

/* --- Reasons ready to take ------------------------------------------------------------------------ */
document.addEventListener("click", (event) => {
  const preset = event.target.closest("[data-preset]");
  if (!preset) return;
  const reason = document.getElementById("id_reason");
  reason.value = preset.dataset.preset;
  reason.focus();
});

// A second click while the first is on its way would be the same act; it need not be sent. The form
// says that it is busy: an import may take a while. Where a file is the answer the page stays, and
// may be asked for another one.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("#act-form:not([data-file])")) return;
  if (event.target.ariaBusy) event.preventDefault();
  event.target.ariaBusy = "true";
  if (!event.defaultPrevented && !("private" in event.target.dataset)) keepDraft(event.target);
});

/* --- What was typed outlives the session: kept by this tab alone, for whoever typed it ------------ */
const DRAFT = "kassa-draft";
const DRAFT_MINUTES_MAX = 60;
const typedIn = (form) => [...form.querySelectorAll("input, select, textarea")]
  .filter((field) => field.name && !["hidden", "file", "password", "submit"].includes(field.type) && field.autocomplete !== "one-time-code");

// A form opens with a few rows; more were typed into one that had grown.
const addRow = (form, name, value) => {
  const last = [...form.querySelectorAll("input[type=text]")].findLast((field) => field.name === name);
  if (!last) return;
  const more = last.cloneNode();
  more.value = value;
  last.parentElement.append(more);
};

const here = () => location.pathname + location.search;

const keepDraft = (form) => {
  const fields = typedIn(form).map((field) => [field.name, ["checkbox", "radio"].includes(field.type) ? field.checked : field.value]);
  // Its token goes with it: what did arrive after all is answered as it was, and not done again.
  const token = form.elements.form_token.value;
  sessionStorage.setItem(DRAFT, JSON.stringify({ url: here(), person: form.dataset.person, at: Date.now(), token, fields }));
};

// Any other page shows that what was sent arrived; a form drawn by the answer holds it already.
document.addEventListener("DOMContentLoaded", () => {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  const isFresh = draft && Date.now() - draft.at < DRAFT_MINUTES_MAX * 60_000;
  if (isFresh && document.getElementById("login-form")) return;
  sessionStorage.removeItem(DRAFT);
  const form = document.querySelector("#act-form:not([data-sent])");
  if (!isFresh || !form || draft.url !== here() || draft.person !== form.dataset.person) return;
  form.elements.form_token.value = draft.token;
  const fields = typedIn(form);
  draft.fields.forEach(([name, value]) => {
    const at = fields.findIndex((field) => field.name === name);
    if (at < 0) return addRow(form, name, value);
    const [field] = fields.splice(at, 1);
    if (typeof value === "boolean") field.checked = value;
    else field.value = value;
  });
  document.getElementById("k-draft").hidden = false;
});

// The theme writes the name of a chosen file into its own text field, which our forms do not have:
// it passes over an input that it takes for listened to.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("#act-form input[type=file]").forEach((input) => { input.hasChangeListener = true; });
});

// What the browser kept of a page and shows again on the way back is a form to be sent anew.
window.addEventListener("pageshow", () => document.getElementById("act-form")?.removeAttribute("aria-busy"));

/* --- Charts: numbers come with the page, as text in the canvas' data ------------------------------ */
const charts = [];
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const paint = (color) => (color?.startsWith("--") ? token(color) : color);

const moneyText = (minor, unit) => {
  const places = unit.exponent;
  const value = Math.abs(minor) / 10 ** places;
  return `${value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places })} ${unit.currency}`;
};

const draw = (canvas) => {
  const told = JSON.parse(canvas.dataset.chart);
  const isRing = told.type === "doughnut";
  const unit = told.unit;
  const say = (item) => {
    const label = isRing ? item.label : item.dataset.label;
    return ` ${label}: ${unit ? moneyText(item.raw, unit) : item.raw}`;
  };
  const short = (value) => {
    if (!unit) return Number.isInteger(value) ? value : "";
    return new Intl.NumberFormat("en", { notation: "compact" }).format(Math.abs(value) / 10 ** unit.exponent);
  };
  const axes = isRing ? {} : {
    x: { stacked: true, grid: { display: false }, border: { color: token("--k-grid") }, ticks: { color: token("--k-soft"), maxRotation: 0, autoSkipPadding: 18, font: { size: 11 } } },
    y: { stacked: true, grid: { color: token("--k-grid"), drawTicks: false }, border: { display: false }, ticks: { color: token("--k-soft"), callback: short, maxTicksLimit: 6, padding: 8, font: { size: 11 } } },
  };
  const datasets = told.datasets.map((set) => ({
    ...set,
    backgroundColor: Array.isArray(set.color) ? set.color.map(paint) : paint(set.color),
    borderWidth: isRing ? 2 : 0, borderColor: token("--k-panel"),
    borderRadius: isRing ? 0 : 3, maxBarThickness: 18, categoryPercentage: 0.8,
  }));
  return new window.Chart(canvas, {
    type: told.type,
    data: { labels: told.labels, datasets },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, cutout: "68%", scales: axes,
      interaction: isRing ? {} : { mode: "index", intersect: false },
      plugins: { legend: { display: false }, tooltip: { callbacks: { label: say }, padding: 10, boxPadding: 4 } },
    },
  });
};

const drawAll = () => {
  if (!window.Chart) return;
  window.Chart.defaults.font.family = "Inter, sans-serif";
  charts.splice(0).forEach((chart) => chart.destroy());
  document.querySelectorAll("canvas[data-chart]").forEach((canvas) => {
    if (canvas.offsetParent !== null) charts.push(draw(canvas));
  });
};

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[data-tab]");
  if (!tab) return;
  const group = tab.closest("[data-tabs]");
  group.querySelectorAll("[data-tab]").forEach((other) => other.setAttribute("aria-selected", String(other === tab)));
  group.querySelectorAll("[data-tab-panel]").forEach((panel) => { panel.hidden = panel.dataset.tabPanel !== tab.dataset.tab; });
  drawAll();
});

window.addEventListener("load", () => {
  drawAll();
  new MutationObserver(drawAll).observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
});

document.addEventListener("change", (event) => event.target.closest("form[data-autosend]")?.submit());
