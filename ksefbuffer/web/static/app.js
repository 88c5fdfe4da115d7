// Small help in the browser. Everything works without it; nothing here speaks to any other machine.
"use strict";
(() => {
  // What names an element from one refresh to the next: links and buttons do without ids.
  const sign = (one) => [one.tagName, one.id || one.getAttribute("href")
    || (one.name && `${one.name}=${one.value}`) || one.dataset.all
    || (one.tabIndex === 0 && one.matches("div") ? one.className : one.textContent.trim())].join(" ");
  const boxes = "input[type=checkbox], input[type=radio]";
  const tickedBy = (all) => [...document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(all.dataset.all)}"]`)];

  // Puts new content into the element; what somebody ticked stays ticked, what has the focus keeps it.
  const replace = (element, fresh) => {
    const asks = "a, button, input, summary, [id], [tabindex]";
    const focused = element.contains(document.activeElement) ? sign(document.activeElement) : null;
    const ticked = new Map([...element.querySelectorAll(boxes)]
      .filter((box) => box.checked !== box.defaultChecked).map((box) => [sign(box), box.checked]));
    element.innerHTML = fresh;
    prepare(element);
    for (const box of element.querySelectorAll(boxes)) {
      if (ticked.has(sign(box))) box.checked = ticked.get(sign(box));
    }
    for (const box of element.querySelectorAll("input[data-all]")) {
      // "All" is not said of rows that came since.
      box.checked = box.checked && tickedBy(box).every((one) => one.checked);
    }
    if (focused === null) return;
    const back = [...element.querySelectorAll(asks)].find((one) => sign(one) === focused);
    if (back) back.focus({ preventScroll: true });
  };

  // data-refresh="/address" data-every="2000": replaces the element's content from there, while the tab is seen.
  const refresh = (element) => {
    const every = Math.max(500, Number(element.dataset.every) || 2000);
    let pause = every;
    const again = () => window.setTimeout(ask, pause);
    const ask = async () => {
      if (!element.isConnected || element.dataset.refresh === undefined) return;
      // What somebody is at work in is not pulled from under their hands.
      const busy = element.contains(document.activeElement)
        && document.activeElement.matches("input:not([type=checkbox], [type=radio]), select, textarea");
      if (document.hidden || busy || element.querySelector("[open].keep")) return again();
      try {
        const answer = await fetch(element.dataset.refresh, {
          credentials: "same-origin", redirect: "manual", headers: { "X-Refresh": "1" },
        });
        if (answer.type === "opaqueredirect" || answer.status === 401) return window.location.reload();
        if (answer.status === 204) { element.removeAttribute("data-refresh"); return; }
        if (answer.ok) {
          const fresh = await answer.text();
          if (fresh !== element.lastFresh) {
            replace(element, fresh);
            element.lastFresh = fresh;
          }
          pause = every;
          const next = answer.headers.get("X-Refresh-Stop");
          if (next) return;
        } else {
          pause = Math.min(pause * 2, 30000);
        }
      } catch {
        pause = Math.min(pause * 2, 30000);
      }
      again();
    };
    again();
  };

  // A file input inside .drop takes files dropped on it. Browsers write its button in their own language, so it is
  // hidden from sight, not from the keyboard, and a label of its own stands in for the button.
  const drop = (zone) => {
    const input = zone.querySelector("input[type=file]");
    if (!input) return;
    const chooser = document.createElement("label");
    chooser.className = "button";
    chooser.htmlFor = input.id;
    chooser.textContent = input.multiple ? "Wybierz pliki" : "Wybierz plik";
    const told = document.createElement("span");
    told.className = "chosen muted";
    told.setAttribute("role", "status");
    input.classList.add("visually-hidden");
    input.after(chooser, told);
    const none = input.multiple ? "Nie wybrano plików" : "Nie wybrano pliku";
    const tell = () => { told.textContent = [...input.files].map((file) => file.name).join(", ") || none; };
    tell();
    input.addEventListener("change", () => {
      tell();
      if (input.dataset.submit !== undefined && input.files.length) input.form.requestSubmit();
    });
    for (const name of ["dragenter", "dragover"]) {
      zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
    }
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.classList.remove("over");
    });
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      const files = new DataTransfer();
      for (const file of event.dataTransfer.files) {
        files.items.add(file);
        if (!input.multiple) break;
      }
      input.files = files.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  };

  const prepare = (root) => {
    for (const element of root.querySelectorAll("[data-refresh]")) refresh(element);
    for (const zone of root.querySelectorAll(".drop")) drop(zone);
    for (const bar of root.querySelectorAll(".scroll")) {
      // A region that scrolls must be reachable by keyboard.
      if (bar.scrollWidth > bar.clientWidth) bar.tabIndex = 0;
    }
  };

  document.addEventListener("submit", (event) => {
    const asks = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (asks && !window.confirm(asks)) { event.preventDefault(); return; }
    // One click, one form: the second is ignored until the page is left or a while has passed.
    if (event.target.dataset.sent && event.target.method === "post") { event.preventDefault(); return; }
    if (event.target.method === "post") {
      event.target.dataset.sent = "1";
      window.setTimeout(() => { delete event.target.dataset.sent; }, 4000);
    }
  });

  document.addEventListener("change", (event) => {
    const input = event.target;
    // data-all="ids": ticks every checkbox of that name; data-now: sends the form at once.
    if (input.dataset.all) {
      for (const box of tickedBy(input)) box.checked = input.checked;
    }
    if (input.dataset.now !== undefined && input.form) input.form.requestSubmit();
  });

  document.addEventListener("click", async (event) => {
    // data-copy="text": puts it on the clipboard.
    const button = event.target.closest("[data-copy]");
    if (!button || !navigator.clipboard) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const was = button.textContent;
    button.textContent = "Skopiowano";
    window.setTimeout(() => { button.textContent = was; }, 1500);
  });

  // Back and forward: a form once sent may be sent again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  prepare(document);
  // On a phone the menu scrolls: where one is should be seen.
  const current = document.querySelector(".sections [aria-current]");
  if (current) current.closest("ul").scrollLeft = current.offsetLeft - (window.innerWidth - current.offsetWidth) / 2;
})();
