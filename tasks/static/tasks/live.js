// Keeps a page fresh: every few seconds it fetches it anew, and puts in what has changed of the elements with
// data-live and an id. Not while it is paused, the tab is hidden, a row is chosen or a text is marked, and never
// under a pointer that is down: the click would be lost. What says so is the element with data-live-every (the
// seconds), which has a button and a status, and is busy while it asks. A page that comes back without one shows
// what changes no more: then this ends. Without this script a page shows what is true when it is loaded.

(() => {
  "use strict";

  const panel = document.querySelector("[data-live-every]");
  if (!panel || !document.querySelector("[data-live][id]")) return;
  const button = panel.querySelector("button");
  const said = panel.querySelector("[role=status]");
  const seconds = Number(panel.dataset.liveEvery) || 5;
  const MEMORY = "tasks-live-paused"; // of this tab

  let paused = remembered();
  let ended = false; // logged out, or the page is gone
  let over = false; // nothing will change any more
  let pressed = false; // somebody is about to click
  let failures = 0;
  let fetching = null;
  let timer = 0;

  function remembered() {
    try { return sessionStorage.getItem(MEMORY) === "yes"; } catch { return false; }
  }

  function remember() {
    try { sessionStorage.setItem(MEMORY, paused ? "yes" : "no"); } catch { /* then not */ }
  }

  const regions = () => [...document.querySelectorAll("[data-live][id]")];

  function marked() {
    const selection = document.getSelection();
    return Boolean(selection) && !selection.isCollapsed &&
      regions().some((region) => selection.containsNode(region, true));
  }

  /** Why it stands still; empty: it does not. */
  function held() {
    if (ended) return "Logged out: load the page anew";
    if (paused) return "Paused";
    if (document.hidden) return "Paused while nobody looks";
    if (regions().some((region) => region.querySelector("input[type=checkbox]:checked"))) {
      return "Paused while rows are chosen";
    }
    if (marked()) return "Paused while text is marked";
    return "";
  }

  function show() {
    const why = held();
    const state = why ? "paused" : failures ? "lost" : "live";
    const text = why || (failures ? "No answer; trying again" : `Live, every ${seconds} s`);
    if (said.textContent !== text) said.textContent = text; // or it would be read out again
    panel.dataset.state = state;
    panel.setAttribute("aria-busy", String(Boolean(fetching)));
    button.textContent = paused ? "Go on" : "Pause";
    button.disabled = ended;
  }

  function plan(wait = seconds * 1000 * Math.min(1 + failures, 6)) {
    clearTimeout(timer);
    if (!over) timer = setTimeout(renew, wait);
  }

  function renew() {
    if (!held()) return ask();
    show();
    plan();
  }

  async function ask() {
    const asked = (fetching = new AbortController());
    show();
    const late = setTimeout(() => asked.abort(), 20000);
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Live": "1" }, credentials: "same-origin", cache: "no-store", signal: asked.signal,
      });
      if (answer.redirected || answer.status === 403) ended = true;
      else if (!answer.ok) throw new Error(answer.statusText);
      else put(new DOMParser().parseFromString(await answer.text(), "text/html"));
      failures = 0;
    } catch (error) {
      if (fetching === asked) failures += 1; // else it was interrupted on purpose
    } finally {
      clearTimeout(late);
      if (fetching === asked) fetching = null;
    }
    show();
    plan();
  }

  function put(page) {
    if (held() || pressed) return; // meanwhile
    for (const region of regions()) {
      const fresh = page.getElementById(region.id);
      if (fresh && fresh.innerHTML !== region.innerHTML) swap(region, fresh);
    }
    over = panel.hidden = !page.querySelector("[data-live-every]");
    document.dispatchEvent(new Event("live:swapped")); // for scripts that listen to what was in there
  }

  function swap(region, fresh) {
    for (const open of region.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
      if (same) same.open = true;
    }
    const scrolled = [...region.querySelectorAll("[data-keeps-scroll]")].map((one) => one.scrollLeft);
    const focused = region.contains(document.activeElement) ? path(region, document.activeElement) : null;
    if (fresh.innerHTML === region.innerHTML) return;
    region.replaceChildren(...document.adoptNode(fresh).childNodes);
    [...region.querySelectorAll("[data-keeps-scroll]")].forEach((one, n) => { one.scrollLeft = scrolled[n] || 0; });
    if (focused) region.querySelector(focused)?.focus({ preventScroll: true });
  }

  /** How the same element is found in the new content. */
  function path(region, element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    if (href) return `a[href="${CSS.escape(href)}"]`;
    const details = element.closest("details[id]");
    return details ? `#${CSS.escape(details.id)} > summary` : null;
  }

  button.addEventListener("click", () => {
    paused = !paused;
    remember();
    show();
    if (paused) { fetching?.abort(); fetching = null; } else plan(0);
  });
  document.addEventListener("visibilitychange", () => { show(); if (!held()) plan(0); });
  document.addEventListener("change", show);
  document.addEventListener("pointerdown", (event) => { pressed = event.button === 0; });
  // a menu that opens takes what comes after the press
  for (const end of ["pointerup", "pointercancel", "contextmenu"]) document.addEventListener(end, () => { pressed = false; });
  document.addEventListener("selectionchange", show);

  panel.hidden = false;
  show();
  plan();
})();
