// hilum's one script: keyboard, live events, toasts, copy as CSV. No inline handlers, no eval.
(() => {
  "use strict";
  const body = document.body;
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- toasts
  const toast = (text, kind = "") => {
    const box = $("#toasts");
    if (!box) return;
    const item = document.createElement("div");
    item.className = `toast ${kind}`;
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = body.dataset.close;
    close.addEventListener("click", () => item.remove());
    item.append(words, close);
    box.append(item);
    if (kind !== "toast-error") setTimeout(() => item.remove(), 5000);
  };
  body.addEventListener("hilum:toast", (event) => toast(event.detail.text, event.detail.kind));
  body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401) return location.reload();
    const title = /notice-title">([^<]+)</.exec(event.detail.xhr.responseText);
    toast(title ? title[1] : body.dataset.failed, "toast-error");
  });
  body.addEventListener("htmx:sendError", () => toast(body.dataset.failed, "toast-error"));

  // ---- table heads stick below the patient banner, however high it is
  const banner = $(".top + .banner");
  if (banner) {
    new ResizeObserver(() => {
      const height = $(".top").offsetHeight + banner.offsetHeight;
      document.documentElement.style.setProperty("--stick", `${height}px`);
    }).observe(banner);
  }

  // ---- on a narrow screen the place in the top bar is in sight
  const now = $(".nav [aria-current]");
  if (now) now.parentElement.scrollLeft = Math.max(0, now.offsetLeft - 24);

  // ---- live: one connection, only while the page is visible, resumed where it ended
  const topics = body.dataset.live;
  let source = null;
  // The page's own t: what was committed while it was on its way is told first.
  let last = body.dataset.from || null;
  let lostAt = null;
  let retry = null;
  const health = () => $("#health");
  // In the zone of all other times of the page, wherever the browser is.
  const clock = () => new Date().toLocaleTimeString("en-GB", { timeZone: body.dataset.zone });
  const lost = () => {
    if (lostAt) return;
    lostAt = clock();
    body.classList.add("is-not-live");
    const pill = health();
    if (pill) {
      pill.classList.add("is-lost");
      const text = $(".health-text", pill);
      pill.dataset.text = text.textContent;
      text.textContent = body.dataset.lost.replace("{at}", lostAt);
    }
    body.dispatchEvent(new CustomEvent("hilum:lost", { detail: { at: lostAt } }));
  };
  const found = () => {
    if (!lostAt) return;
    lostAt = null;
    body.classList.remove("is-not-live");
    const pill = health();
    if (pill && pill.dataset.text) {
      pill.classList.remove("is-lost");
      $(".health-text", pill).textContent = pill.dataset.text;
    }
    body.dispatchEvent(new CustomEvent("hilum:found"));
  };
  let watchdog = null;
  const heard = (event) => {
    found();
    if (event.lastEventId) last = event.lastEventId;
    clearTimeout(watchdog);
    watchdog = setTimeout(() => { stop(); lost(); start(); }, 30000);
  };
  const stop = () => {
    clearTimeout(watchdog);
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };
  // The page anew, as soon as there is one: what is shown stays until then, marked as not live, in the place of a failure.
  const again = () => {
    fetch(location.href, { headers: { "Hilum-Live": "1" }, cache: "no-store" })
      .then((answer) => { if (answer.status >= 500) throw new Error("not yet"); location.reload(); })
      .catch(() => { lost(); clearTimeout(retry); retry = setTimeout(again, 3000); });
  };
  const start = () => {
    if (topics === undefined || document.hidden || source) return;
    const from = last ? `&from=${encodeURIComponent(last)}` : "";
    source = new EventSource(`/live?topics=${encodeURIComponent(topics)}${from}`);
    source.addEventListener("beat", (event) => {
      heard(event);
      const beat = JSON.parse(event.data);
      const pill = health();
      if (pill && beat.feed) {
        pill.className = `health health-${beat.feed.state}`;
        $(".health-text", pill).textContent = beat.feed.text;
      }
      body.dispatchEvent(new CustomEvent("hilum:beat", { detail: beat }));
    });
    source.addEventListener("change", (event) => {
      heard(event);
      const change = JSON.parse(event.data);
      for (const topic of Object.keys(change.topics)) {
        const detail = { t: change.t, ids: change.topics[topic] };
        body.dispatchEvent(new CustomEvent(`change:${topic}`, { detail }));
      }
    });
    source.addEventListener("end", () => { stop(); again(); });
    source.onerror = () => {
      lost();
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        retry = setTimeout(start, 3000);
      }
    };
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  if ($("[data-again]")) retry = setTimeout(again, 5000);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  start();
  // A live page's own refreshes say so: the audit log counts them once in a quarter of an hour.
  // A poll has no event: nobody did anything.
  body.addEventListener("htmx:configRequest", (event) => {
    const cause = event.detail.triggeringEvent;
    if (!cause || cause.type.startsWith("change:")) event.detail.headers["Hilum-Live"] = "1";
  });
  // What changed is marked for 5 s, over further swaps too: rows that carry an id and data-v, their version.
  const versions = new Map();
  const freshUntil = new Map();
  const showFresh = () => {
    const now = Date.now();
    for (const [id, until] of freshUntil) {
      const row = document.getElementById(id);
      if (row) row.classList.toggle("is-new", now < until);
      if (now >= until) freshUntil.delete(id);
    }
  };
  body.addEventListener("htmx:beforeSwap", () => {
    versions.clear();
    $$("[data-v][id]").forEach((row) => versions.set(row.id, row.dataset.v));
  });
  body.addEventListener("htmx:afterSettle", (event) => {
    const cause = event.detail.requestConfig && event.detail.requestConfig.triggeringEvent;
    if (cause && cause.type.startsWith("change:")) {
      $$("[data-v][id]").forEach((row) => {
        if (versions.get(row.id) !== row.dataset.v) freshUntil.set(row.id, Date.now() + 5000);
      });
      setTimeout(showFresh, 5050);
    }
    showFresh();
  });

  // ---- rows: j k Enter, kept by id over a swap
  let here = null;
  const rows = () => $$("[data-rows] tbody tr:not(.group):not([hidden])").filter((row) => row.offsetParent !== null);
  const mark = (row) => {
    $$(".is-here").forEach((other) => other.classList.remove("is-here"));
    if (!row) return;
    here = row.id || null;
    row.classList.add("is-here");
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  };
  const step = (by) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("is-here"));
    mark(all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))]);
  };
  body.addEventListener("htmx:afterSettle", () => {
    const row = here && document.getElementById(here);
    if (row) row.classList.add("is-here");
  });
  const open = (row) => {
    const link = row.dataset.href || (($("a[href]", row) || {}).href);
    if (link) location.href = link;
  };
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) {
      const box = document.getElementById(opener.dataset.open);
      if (box && box.showModal) box.showModal();
      return;
    }
    const copier = event.target.closest("[data-copy-csv]");
    if (copier) return copyCsv(copier);
    const row = event.target.closest("tr[data-href]");
    if (row && !event.target.closest("a, button, input, label, select") && !String(getSelection())) open(row);
    $$("details.menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  document.addEventListener("submit", (event) => {
    const ask = event.target.dataset.confirm;
    if (ask && !window.confirm(ask)) event.preventDefault();
  });

  // ---- copy as CSV: what the table shows
  const copyCsv = (button) => {
    const table = document.getElementById(button.dataset.copyCsv) || $("[data-rows]");
    if (!table) return;
    const quote = (raw) => {
      const text = raw.replace(/\s+/g, " ").trim();
      // A spreadsheet must not take a cell for a formula.
      const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
    };
    const lines = $$("tr", table).filter((row) => row.offsetParent !== null);
    const all = lines.map((row) => [...row.cells].map((cell) => quote(cell.innerText)).join(","));
    // Whoever reads the copy must see that it is not everybody.
    if (table.dataset.part) all.unshift(quote(table.dataset.part));
    const text = all.join("\r\n");
    const n = $$("tbody tr:not(.group)", table).length;
    navigator.clipboard.writeText(text).then(() => toast(body.dataset.copied.replace("{n}", n)));
  };

  // ---- keyboard
  let wentG = 0;
  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : body;
    const isTyping = target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      const menu = $("details.menu[open]");
      const drawer = $(".drawer");
      if ($("dialog[open]")) return;
      if (menu) { menu.open = false; $("summary", menu).focus(); return; }
      if (isTyping) { target.blur(); return; }
      if (drawer) { drawer.remove(); return; }
      const back = $("[data-back]");
      if (back) location.href = back.href;
      return;
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (wentG && /^[1-9]$/.test(event.key) && Date.now() - wentG < 1500) {
      const item = $$(".nav a")[Number(event.key) - 1];
      wentG = 0;
      if (item) location.href = item.href;
      return;
    }
    switch (event.key) {
      case "/": { const search = $("[data-search]"); if (search) { event.preventDefault(); search.focus(); search.select(); } break; }
      case "j": case "ArrowDown": if (event.key === "j" || here !== null) { event.preventDefault(); step(1); } break;
      case "k": case "ArrowUp": if (event.key === "k" || here !== null) { event.preventDefault(); step(-1); } break;
      case "Enter": { const row = $(".is-here"); if (row && !target.closest("a, button, summary")) open(row); break; }
      case "g": wentG = Date.now(); break;
      case "?": { const box = $("#keys"); if (box) box.showModal(); break; }
      default:
    }
  });
})();
