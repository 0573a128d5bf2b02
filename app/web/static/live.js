// The page reads itself again when the server says that something changed. All of it works without.
"use strict";
(() => {
  const TICK = 8; // units of a strip's drawing for each tick
  const EVERY = 30_000; // so that "3 min ago" stays true
  const live = document.getElementById("live");
  const tip = document.createElement("div");
  let retry = 2_000;
  let reading = false;
  let again = false;

  const say = (text) => {
    if (live && live.textContent !== text) live.textContent = text;
  };

  // Whoever types is not disturbed.
  const typing = () => document.activeElement?.matches("input, textarea, select") ?? false;

  const mark = (element) => {
    if (!element || element === document.body) return null;
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    return href ? `a[href="${CSS.escape(href)}"]` : null;
  };

  const put = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.querySelector("main[data-live]");
    const old = document.querySelector("main[data-live]");
    if (!fresh || !old) return;
    const focused = old.contains(document.activeElement) ? mark(document.activeElement) : null;
    const open = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
    const scrolled = [...old.querySelectorAll(".wide")].map((one) => one.scrollLeft);
    old.replaceChildren(...fresh.childNodes);
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    old.querySelectorAll(".wide").forEach((one, n) => { one.scrollLeft = scrolled[n] ?? 0; });
    if (focused) old.querySelector(focused)?.focus({ preventScroll: true });
    const head = document.getElementById("headline")?.textContent.trim();
    if (document.title !== page.title && head) say(head);
    document.title = page.title;
  };

  const read = async () => {
    if (reading || typing() || document.hidden) { again = true; return; }
    reading = true;
    again = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
      else put(await answer.text());
    } catch {
      say("The server does not answer. Trying again.");
    } finally {
      reading = false;
    }
  };

  const listen = () => {
    const stream = new EventSource("/live");
    let first = true;
    stream.onopen = () => { retry = 2_000; say(""); };
    stream.onmessage = () => {
      if (first && !again) { first = false; return; } // what we were served is as new
      first = false;
      read();
    };
    stream.onerror = () => {
      say("The server does not answer. Trying again.");
      again = true;
      if (stream.readyState !== EventSource.CLOSED) return; // the browser comes again by itself
      setTimeout(() => { read(); listen(); }, retry);
      retry = Math.min(retry * 2, 30_000);
    };
  };

  const slot = (event) => {
    const strip = event.target.closest?.("svg.strip");
    if (!strip) return null;
    const box = strip.getBoundingClientRect();
    const places = Math.round(strip.viewBox.baseVal.width / TICK);
    const shapes = strip.lastElementChild.children;
    const offset = places - shapes.length;
    const place = Math.floor(((event.clientX - box.left) / box.width) * places) - offset;
    return shapes[place] ?? null;
  };

  const words = (shape) => shape?.querySelector("title")?.textContent ?? shape?.dataset.says ?? "";

  document.addEventListener("click", (event) => {
    const shape = slot(event);
    if (!shape || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const job = shape.closest("[data-job]")?.dataset.job;
    const [day, time] = words(shape).split(" ");
    if (!job || !day) return;
    event.preventDefault();
    location.href = `/jobs/${job}/ticks/${day}T${time}Z`;
  });

  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true");
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("mousemove", (event) => {
    const shape = slot(event);
    tip.hidden = !shape;
    if (!shape) return;
    tip.textContent = words(shape);
    tip.style.left = `${Math.min(event.clientX, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 18}px`;
  });

  document.addEventListener("focusout", () => { if (again) setTimeout(read, 200); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) read(); });
  setInterval(read, EVERY);
  listen();
})();
