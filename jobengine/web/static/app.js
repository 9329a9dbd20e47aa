"use strict";
// Comfort for the pages, all of which read without it: times in the reader's zone, refreshing,
// shortcuts, copying, searching on. Nothing here decides anything.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// --- Times: the exact one, in the reader's own zone, on hover; in place where it is the text.
function localTimes(root) {
  for (const time of $$("time", root)) {
    const exact = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
    if (time.title !== exact) time.title = exact;
    if (time.closest(".at") && time.textContent !== exact) time.textContent = exact;
  }
}

// --- Refreshing: what is marked data-live is fetched again while the page is seen. Where the
// rows stay the same, what is in them is replaced; where they change, that waits until the
// pointer and the focus are elsewhere, and so does what would move something under either.
const PERIOD = 3000;
let refreshing = false;

const keysOf = (part) => $$("[data-key]", part).map((row) => row.dataset.key).join("\n");
// What the pointer is on. A finger that is gone is on nothing, though :hover stays where it was.
const hovers = matchMedia("(hover: hover)");
const pointed = () => (hovers.matches ? $$(":hover").at(-1) : null);
const busy = (part) =>
  part.contains(pointed()) || part.contains(document.activeElement) || $("input:checked", part) !== null;
const classes = (element) => [...element.classList].filter((name) => !["cursor", "flash"].includes(name)).join(" ");
const same = (row, fresh) => row.innerHTML === fresh.innerHTML && classes(row) === classes(fresh);

// Whether the pointer, or the cursor in a field, is in a part or on something after it.
function held(part) {
  const field = document.activeElement?.matches("input:not([type=checkbox]), textarea, select");
  return [pointed(), field && document.activeElement].some((element) => element &&
    (part.contains(element) || part.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING));
}

// Puts what is fresh into elements of a part, unless it is held and would grow or shrink by it.
function swap(part, pairs) {
  const before = pairs.map(([old]) => [...old.childNodes]), height = held(part) ? part.offsetHeight : -1;
  for (const [old, fresh] of pairs) old.replaceChildren(...fresh.childNodes);
  if (height >= 0 && part.offsetHeight !== height) {
    pairs.forEach(([old], index) => old.replaceChildren(...before[index]));
    return false;
  }
  for (const [old, fresh] of pairs) {
    const cursor = old.classList.contains("cursor");
    for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
    old.classList.toggle("cursor", cursor);
  }
  return true;
}

function renew(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return true;
  const rows = $$("[data-key]", part), others = $$("[data-key]", fresh);
  const keys = keysOf(part);
  if (rows.length === 0 || keys !== keysOf(fresh)) {
    if (busy(part) || !swap(part, [[part, fresh]])) return false;
    const known = new Set(keys.split("\n"));
    for (const row of $$("tr[data-key]", part)) if (!known.has(row.dataset.key)) row.classList.add("flash");
    return true;
  }
  const changed = rows.map((row, index) => [row, others[index]]).filter(([row, other]) =>
    !same(row, other) && !row.contains(document.activeElement) && $("input:checked", row) === null &&
    !(row.matches("figure") && row.contains(pointed())));  // whose numbers are being read
  return swap(part, changed);
}

async function refresh() {
  const parts = $$("[data-live]");
  if (parts.length === 0 || document.hidden || refreshing || $("dialog[open]")) return;
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { "X-Requested-With": "fragment" } });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return say("not refreshed: " + answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    let waiting = false;
    for (const part of parts) {
      const other = $(`[data-live="${part.dataset.live}"]`, fresh);
      if (other) { localTimes(other); waiting = !renew(part, other) || waiting; }
    }
    decorate();
    say(waiting ? "changes wait until the pointer and the cursor are elsewhere" : "live");
  } catch {
    say("the server does not answer");
  } finally {
    refreshing = false;
  }
}

function say(text) {
  const place = $("#live");
  if (place && $("[data-live]")) { place.hidden = false; if (place.textContent !== text) place.textContent = text; }
}

// --- Copying.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const text = button.dataset.copy ?? document.getElementById(button.dataset.copyFrom).textContent;
  const before = button.textContent;
  navigator.clipboard.writeText(text).then(
    () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = before; }, 1500); },
    () => { button.textContent = "Not allowed"; },
  );
});

// --- Ticking all, and the two ways to choose jobs kept apart.
function ticking() {
  const all = $("#tick-all"), everything = $("#everything");
  if (all) {
    all.hidden = false;
    $("input", all).addEventListener("change", (event) => {
      for (const box of $$("input[name=job]")) box.checked = event.target.checked;
    });
  }
  if (everything) everything.addEventListener("change", () => {
    for (const box of $$("input[name=job]")) box.disabled = everything.checked;
  });
}

// --- Searching on through contents, page after page, until it is stopped or at the end.
async function search() {
  const bar = $("#searching");
  if (!bar || !bar.dataset.next) return;
  const stop = $("[data-stop]", bar), rows = $("#rows"), total = Number(bar.dataset.total);
  let looked = Number(bar.dataset.looked), next = bar.dataset.next, stopped = false;
  stop.hidden = false;
  stop.addEventListener("click", () => { stopped = true; });
  while (next && !stopped && rows.children.length < 500) {
    const answer = await fetch(next, { headers: { "X-Requested-With": "fragment" } });
    if (!answer.ok) break;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = $("#searching", page);
    looked += Number(found.dataset.looked);
    next = found.dataset.next;
    localTimes(page);
    rows.append(...$("#rows", page).children);
    $("progress", bar).value = next ? looked : total;
    $("[data-count]", bar).textContent = looked.toLocaleString("en");
    $("#none")?.toggleAttribute("hidden", rows.children.length > 0);
  }
  stop.hidden = true;
  const on = $("a[rel=next]");
  if (on) { if (next) on.href = next; else on.remove(); }
  if (!next && rows.children.length === 0 && $("#none")) $("#none").textContent = "There are no such jobs.";
}

// --- Numbers of a plot under the pointer.
function plots() {
  for (const figure of $$("figure[data-plot]")) {
    if (figure.dataset.ready) continue;
    figure.dataset.ready = "1";
    figure.addEventListener("pointermove", (event) => {
      const box = $("svg", figure).getBoundingClientRect(), { times, lines } = JSON.parse(figure.dataset.plot);
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const index = Math.round(share * (times.length - 1));
      const when = new Date(times[index] * 1000).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
      $("[data-read]", figure).textContent =
        when + " · " + Object.entries(lines).map(([name, values]) => `${name} ${values[index]}`).join(", ");
    });
    figure.addEventListener("pointerleave", () => { $("[data-read]", figure).textContent = ""; });
  }
}

// --- Shortcuts.
const SHORTCUTS = [
  ["/", "find a job, or search in contents"], ["g q", "all queues"], ["g s", "system"],
  ["j, k", "next, previous row"], ["Enter", "open the row"], ["x", "tick the row"],
  ["n", "next page"], ["r", "refresh"], ["?", "this list"],
];
let row = -1, before = "";

function move(by) {
  const rows = $$("table[data-rows] tbody tr");
  if (rows.length === 0) return;
  rows[row]?.classList.remove("cursor");
  row = Math.min(rows.length - 1, Math.max(0, row + by));
  rows[row].classList.add("cursor");
  rows[row].scrollIntoView({ block: "nearest" });
}

function help() {
  let dialog = $("#help");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "help";
    dialog.setAttribute("aria-label", "Keyboard shortcuts");
    const list = document.createElement("dl");
    for (const [key, text] of SHORTCUTS) {
      const name = document.createElement("dt"), what = document.createElement("dd"), cap = document.createElement("kbd");
      cap.textContent = key; name.append(cap); what.textContent = text; list.append(name, what);
    }
    const close = document.createElement("form"), button = document.createElement("button");
    close.method = "dialog"; button.textContent = "Close"; close.append(button);
    dialog.append(list, close);
    document.body.append(dialog);
  }
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // Until the next frame the focus is still in a dialog that has just been closed.
  const target = event.target.closest("dialog:not([open])") ? document.body : event.target;
  if (target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
  const key = before + event.key;
  before = "";
  const current = $$("table[data-rows] tbody tr")[row];
  const acts = {
    "/": () => ($("[data-search]") ?? $("#find"))?.focus(),
    "gq": () => { location.href = $(".brand").href; }, "gs": () => { location.href = new URL("system", $(".brand").href); },
    "j": () => move(1), "k": () => move(-1), "?": help, "r": refresh,
    "n": () => $("a[rel=next]")?.click(),
    "x": () => { const box = current && $("input[type=checkbox]", current); if (box) box.checked = !box.checked; },
    "Enter": () => { if (target === document.body) $("a", current ?? document.createElement("i"))?.click(); },
    "g": () => { before = "g"; },
  };
  if (Object.hasOwn(acts, key)) {
    if (key !== "Enter") event.preventDefault();
    acts[key]();
  }
});

function decorate() { localTimes(document); plots(); for (const b of $$("[data-copy], [data-copy-from]")) b.hidden = false; }

decorate();
ticking();
search();
const shortcuts = $("#keys");
if (shortcuts) { shortcuts.hidden = false; shortcuts.addEventListener("click", help); }
if ($("[data-live]")) {
  say("live");
  setInterval(refresh, PERIOD);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}
