// Reloads the content of the page when the server reports a change. The pages work without it.
"use strict";
(() => {
  if (!document.querySelector("main[data-live]")) return;
  const TICK = 8; // width of a slot in units of the strip's view box
  const EVERY = 30_000; // milliseconds; keeps relative times such as "3 min ago" current
  const live = document.getElementById("live");
  const tip = document.createElement("div");
  let retry = 2_000;
  let reading = false;
  let stale = false;

  const announce = (text) => {
    if (live && live.textContent !== text) live.textContent = text;
  };

  // The content is not replaced while the user edits a form field, or has selected rows.
  const typing = () => (document.activeElement?.matches("input, textarea, select") ?? false)
    || document.querySelector("main[data-live] input:checked") !== null;

  const selectorOf = (element) => {
    if (!element || element === document.body) return null;
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    return href ? `a[href="${CSS.escape(href)}"]` : null;
  };

  // A control of a form is known again by its form, its name and, of a button, its text.
  const controlsIn = (root) => [...root.querySelectorAll("form :is(input, textarea, select, button)")];
  const nameOf = (one) => [
    one.form.getAttribute("action"), one.type, one.name, one.matches("button") ? one.textContent : "",
  ].join("\n");
  const unset = (one) => ([...one.options].find((each) => each.defaultSelected) ?? one.options[0])?.value;
  const changed = (one) => one.type !== "hidden" && !one.matches("button")
    && one.value !== (one.matches("select") ? unset(one) : one.defaultValue);

  const replaceContent = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.querySelector("main[data-live]");
    const old = document.querySelector("main[data-live]");
    if (!fresh || !old) return;
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const focused = selectorOf(active);
    const control = active?.form ? nameOf(active) : null;
    const typed = controlsIn(old).filter(changed).map((one) => [nameOf(one), one.value]);
    const open = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
    const scrolled = [...old.querySelectorAll(".wide")].map((one) => one.scrollLeft);
    old.replaceChildren(...fresh.childNodes);
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    old.querySelectorAll(".wide").forEach((one, n) => { one.scrollLeft = scrolled[n] ?? 0; });
    const controls = new Map(controlsIn(old).map((one) => [nameOf(one), one]));
    typed.forEach(([name, value]) => { if (controls.has(name)) controls.get(name).value = value; });
    (controls.get(control) ?? (focused && old.querySelector(focused)))?.focus({ preventScroll: true });
    const head = document.getElementById("headline")?.textContent.trim();
    if (document.title !== page.title && head) announce(head);
    document.title = page.title;
  };

  const reload = async () => {
    if (reading || typing() || document.hidden) { stale = true; return; }
    reading = true;
    stale = false;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (response.redirected && new URL(response.url).pathname === "/login") location.reload();
      else {
        const text = await response.text();
        if (typing()) stale = true;
        else replaceContent(text);
      }
    } catch {
      announce("The server does not answer. Trying again.");
    } finally {
      reading = false;
    }
  };

  const listen = () => {
    const stream = new EventSource("/live");
    let first = true;
    stream.onopen = () => { retry = 2_000; announce(""); };
    stream.onmessage = () => {
      if (first && !stale) { first = false; return; } // the page was just loaded
      first = false;
      reload();
    };
    stream.onerror = () => {
      announce("The server does not answer. Trying again.");
      stale = true;
      if (stream.readyState !== EventSource.CLOSED) return; // the browser reconnects by itself
      setTimeout(() => { reload(); listen(); }, retry);
      retry = Math.min(retry * 2, 30_000);
    };
  };

  // What a slot of a strip says is its title on the page of the job. A strip of the jobs table has
  // no titles, and gets them from that page when the pointer is over it for the first time.
  const titles = new Map();
  const titlesIn = (strip) => [...strip.lastElementChild.children]
    .map((shape) => shape.querySelector("title")?.textContent ?? "");
  const titlesOf = (strip) => {
    const newest = strip.dataset.newest;
    if (newest === undefined) return Promise.resolve(titlesIn(strip));
    const key = `${strip.closest("a").href} ${newest}`;
    if (!titles.has(key)) {
      titles.set(key, fetch(strip.closest("a").href, { headers: { accept: "text/html" } })
        .then((response) => response.text())
        .then((text) => {
          const page = new DOMParser().parseFromString(text, "text/html");
          const all = titlesIn(page.querySelector("svg.strip.long"));
          const last = all.findIndex((says) => says.startsWith(`${newest} `));
          return all.slice(0, last + 1).slice(-Number(strip.dataset.slots));
        })
        .catch(() => { titles.delete(key); return []; }));
    }
    return titles.get(key);
  };

  const slotAt = async (event) => {
    const strip = event.target.closest?.("svg.strip");
    if (!strip) return null;
    const { clientX } = event;
    const box = strip.getBoundingClientRect();
    const places = Math.round(strip.viewBox.baseVal.width / TICK);
    const count = strip.dataset.slots ?? strip.lastElementChild.children.length;
    const place = Math.floor(((clientX - box.left) / box.width) * places) - (places - count);
    if (place < 0) return null;
    const says = await titlesOf(strip);
    return says[place - (count - says.length)] || null;
  };

  document.addEventListener("click", (event) => {
    const strip = event.target.closest?.("svg.strip");
    const job = strip?.closest("[data-job]")?.dataset.job;
    if (!job || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    slotAt(event).then((says) => {
      const [day, time] = (says ?? "").split(" ");
      location.href = time ? `/jobs/${job}/ticks/${day}T${time}Z` : `/jobs/${job}`;
    });
  });

  let moves = 0;
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true");
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("mousemove", async (event) => {
    const move = ++moves;
    const { clientX, clientY } = event;
    const says = await slotAt(event);
    if (move !== moves) return; // the pointer has moved on
    tip.hidden = !says;
    if (!says) return;
    tip.textContent = says;
    tip.style.left = `${Math.min(clientX, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${clientY + 18}px`;
  });

  document.addEventListener("focusout", () => { if (stale) setTimeout(reload, 200); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) reload(); });
  // The server shows times in the zone of the browser, which it learns from a cookie.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && zone !== "UTC" && !/(^|; )zone=/.test(document.cookie)) {
    document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
    reload();
  }

  setInterval(reload, EVERY);
  listen();
})();
