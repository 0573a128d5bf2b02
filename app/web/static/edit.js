// Shows when a cron expression is due while it is typed. The form's Preview button does the same.
"use strict";
(() => {
  const shown = document.getElementById("preview");
  const fields = [...document.querySelectorAll("[data-preview]")];
  if (!shown || !fields.length) return;
  let timer = 0;
  let latest = 0;

  const show = async () => {
    const number = ++latest;
    const query = new URLSearchParams(fields.map((one) => [one.dataset.preview, one.value]));
    try {
      const response = await fetch(`/edit/preview?${query}`, { headers: { accept: "text/html" } });
      const text = await response.text();
      if (!response.ok || response.redirected || number !== latest) return;
      const page = new DOMParser().parseFromString(text, "text/html");
      shown.replaceChildren(...page.body.childNodes);
    } catch {
      // the button is still there
    }
  };

  fields.forEach((one) => one.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 300);
  }));
})();
