// What the pages add where there is script: live updates in place, times in words, writes without leaving the page.
// Nothing here makes HTML or knows what a page shows: what arrives was rendered by the daemon, as the page itself was.
"use strict";

const was = new WeakMap(); // an element of a keyed list -> its HTML as the daemon sent it
const status = document.getElementById("stream");
const HIDDEN_MS = 60000; // after which a page that nobody looks at lets go of its connection
const SILENCE_MS = 12500; // of a stream: two and a half of the daemon's beats
const BACK_OFF_MS = [500, 1000, 2000, 5000, 10000];

// --- pieces of the page ---

function remember(root) {
  for (const list of root.querySelectorAll("[data-keyed]")) {
    for (const each of list.children) was.set(each, each.outerHTML);
  }
}

function keepOpen(old, fresh) {
  for (const each of old.querySelectorAll("details[id][open]")) {
    const same = fresh.querySelector(`#${CSS.escape(each.id)}`);
    if (same) same.open = true;
  }
}

function reconcile(list, wanted) {
  for (const each of [...list.children]) {
    if (!each.id || !wanted.querySelector(`:scope > #${CSS.escape(each.id)}`)) each.remove();
  }
  let place = list.firstElementChild;
  for (const fresh of [...wanted.children]) {
    let node = document.getElementById(fresh.id);
    const html = fresh.outerHTML;
    if (!node) {
      node = fresh;
    } else if (was.get(node) !== html) {
      keepOpen(node, fresh);
      if (node === place) place = place.nextElementSibling;
      node.remove();
      node = fresh;
    }
    was.set(node, html);
    if (node === place) place = place.nextElementSibling;
    else list.insertBefore(node, place);
  }
}

function replace(old, fresh) {
  const list = fresh.querySelector("[data-keyed]");
  const same = list && list.id && document.getElementById(list.id);
  if (same) {
    reconcile(same, list);
    list.replaceWith(same);
  } else {
    keepOpen(old, fresh);
  }
  old.replaceWith(fresh);
}

function apply(html) {
  const follows = live.matches("[data-follow]"), atEnd = scrollY + innerHeight >= document.documentElement.scrollHeight - 80;
  const sent = document.createElement("template");
  sent.innerHTML = html;
  for (const fresh of [...sent.content.children]) {
    const grows = fresh.dataset.grows;
    const old = document.getElementById(grows || fresh.id);
    if (grows) {
      if (old) { old.append(...fresh.childNodes); old.normalize(); }
    } else if (old) {
      replace(old, fresh);
    } else {
      document.getElementById(fresh.dataset.into)?.append(fresh);
    }
    if (fresh.isConnected) settle(fresh);
    if ("namesPage" in fresh.dataset) title = `${fresh.textContent} · palyra-trio`;
  }
  if (follows && atEnd) scrollTo({ top: document.documentElement.scrollHeight });
  sayTitle();
}

function settle(root) {
  times(root);
  if (window.htmx) htmx.process(root);
}

// --- the stream ---

const live = document.querySelector("[data-live]");
let source = null, place = live?.dataset.place || "", failures = 0, again = null, silence = null, displaced = false;

function say(word, text) {
  status.hidden = false;
  status.dataset.state = word;
  status.textContent = text;
}

function leave() {
  clearTimeout(again);
  clearTimeout(silence);
  source?.close();
  source = null;
}

function lose(words) {
  leave();
  say("lost", words);
  retry();
}

function heard() {
  clearTimeout(silence);
  silence = setTimeout(() => lose("not live: reconnecting"), SILENCE_MS);
}

function listen() {
  leave();
  displaced = false;
  const from = new URL(live.dataset.live, location.href);
  from.searchParams.set("after", place);
  source = new EventSource(from);
  heard();
  source.onopen = () => { failures = 0; say("live", "live"); heard(); };
  source.addEventListener("beat", heard);
  source.addEventListener("update", (event) => { apply(event.data); place = event.lastEventId || place; heard(); });
  source.addEventListener("problem", (event) => {
    leave();
    say("lost", event.data);
    again = setTimeout(loadAgain, 3000); // the page as it is now, or where to sign in
  });
  source.addEventListener("displaced", (event) => { leave(); displaced = true; say("lost", event.data); });
  source.addEventListener("bye", () => lose("the daemon is going; reconnecting"));
  source.onerror = () => lose("not live: reconnecting");
}

function retry() {
  again = setTimeout(async () => {
    try {
      const signal = AbortSignal.timeout(SILENCE_MS);
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", headers: { "HX-Request": "true" }, signal });
      if (answer.status === 401) { say("lost", "signed out"); loadAgain(); return; }
    } catch { /* nobody answers yet: the stream will say so again */ }
    listen();
  }, BACK_OFF_MS[Math.min(failures++, BACK_OFF_MS.length - 1)]);
}

if (live) {
  let hiding = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => { leave(); say("lost", "not live"); }, HIDDEN_MS);
    else if (!source) listen();
  });
  addEventListener("focus", () => { if (displaced) listen(); });
  remember(document);
  listen();
  if (live.matches("[data-follow]") && !location.hash) scrollTo({ top: document.documentElement.scrollHeight });
}

// --- times in words ---

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

function span(seconds) {
  for (const [unit, length] of UNITS) if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  return `${Math.floor(seconds)} s`;
}

function times(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const at = new Date(each.dateTime), s = (Date.now() - at) / 1000;
    each.title ||= at.toLocaleString();
    if ("age" in each.dataset) each.textContent = `${span(Math.max(0, s))} ago`;
    else if ("until" in each.dataset) each.textContent = s < 0 ? `in ${span(-s)}` : "now";
    else if ("clock" in each.dataset) each.textContent = at.toTimeString().slice(0, 8);
  }
}

setInterval(() => times(document), 10000);

// --- the title says what waits ---

let title = document.title;

function sayTitle() {
  const waits = Number(document.querySelector("[data-title]")?.dataset.title || 0);
  document.title = waits ? `(${waits}) ${title}` : title;
}

// --- what was typed outlives the sign-in that ended: it is there again, once, after the next one of the same person ---

const TYPED = "textarea, select, input:not([type=hidden], [type=file], [type=password], [type=checkbox], [type=radio])";

function typed(form) {
  return [...form.elements].filter((each) => each.name && each.matches(TYPED));
}

function keptAs(form) {
  return `${document.querySelector(".who")?.textContent} ${form.getAttribute("action")}`;
}

function loadAgain() {
  for (const form of document.forms) {
    const fields = typed(form);
    if (!fields.some((each) => "defaultValue" in each && each.value !== each.defaultValue)) continue;
    sessionStorage.setItem(keptAs(form), JSON.stringify(fields.map((each) => [each.name, each.value])));
  }
  location.assign(location.pathname + location.search);
}

function giveBack(form) {
  const kept = JSON.parse(sessionStorage.getItem(keptAs(form)) || "[]");
  sessionStorage.removeItem(keptAs(form));
  for (const [name, value] of kept) {
    const field = typed(form).find((each) => each.name === name);
    if (field) field.value = value;
  }
}

// --- forms ---

const notice = document.getElementById("notice");

document.addEventListener("htmx:afterRequest", (event) => {
  const { xhr, elt, requestConfig, successful } = event.detail;
  if (xhr.status === 401) loadAgain();
  if (!successful) return;
  notice.replaceChildren();
  if (requestConfig.verb !== "post") return;
  if (elt.matches("[data-clear]")) for (const each of elt.querySelectorAll("textarea, input[type=file]")) each.value = "";
  if (!source && xhr.getResponseHeader("X-Next")) location.assign(xhr.getResponseHeader("X-Next"));
});

for (const failure of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, () => notice.replaceChildren(document.getElementById("no-answer").content.cloneNode(true)));
}

document.addEventListener("htmx:beforeSend", ({ detail: { xhr } }) => {
  const began = performance.now();
  xhr.upload.onprogress = () => { xhr.timeout = performance.now() - began + htmx.config.timeout; }; // files may take their time
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-dismiss]")) return;
  notice.replaceChildren();
  document.getElementById("main").focus({ preventScroll: true });
});

document.addEventListener("change", ({ target }) => {
  if (!target.matches("input[type=file]")) return;
  const sizes = [...target.files].map((each) => each.size), { count, each, all } = target.dataset;
  const few = sizes.length <= count && Math.max(0, ...sizes) <= each && sizes.reduce((a, b) => a + b, 0) <= all;
  target.setCustomValidity(few ? "" : `Too much: ${document.getElementById("files-bounds").textContent}.`);
  target.reportValidity();
});

document.addEventListener("htmx:afterSwap", (event) => times(event.target));

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) {
    event.preventDefault();
    event.target.form?.requestSubmit(event.target.form.querySelector("button.primary"));
  }
  if (event.key === "Escape") {
    const open = document.querySelector("details.menu[open], details.confirm[open]");
    if (open) open.removeAttribute("open");
    else notice.replaceChildren();
  }
});

addEventListener("load", () => document.querySelector(".call:target > details")?.setAttribute("open", ""));

for (const form of document.forms) giveBack(form);
for (const form of document.querySelectorAll("form[data-submit]")) form.submit();
times(document);
sayTitle();
