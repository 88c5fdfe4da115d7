// Small help in the browser. Everything works without it; nothing here speaks to any other machine.
"use strict";
(() => {
  // data-refresh="/address" data-every="2000": replaces the element's content from there, while the tab is seen.
  const refresh = (element) => {
    const every = Math.max(500, Number(element.dataset.every) || 2000);
    let pause = every;
    const again = () => window.setTimeout(ask, pause);
    const ask = async () => {
      if (!element.isConnected || element.dataset.refresh === undefined) return;
      // What somebody is at work in is not pulled from under their hands.
      const busy = element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
      if (document.hidden || busy || element.querySelector("[open].keep, input:checked")) return again();
      try {
        const answer = await fetch(element.dataset.refresh, {
          credentials: "same-origin", redirect: "manual", headers: { "X-Refresh": "1" },
        });
        if (answer.type === "opaqueredirect" || answer.status === 401) return window.location.reload();
        if (answer.status === 204) { element.removeAttribute("data-refresh"); return; }
        if (answer.ok) {
          const fresh = await answer.text();
          if (fresh !== element.lastFresh) {
            const focused = document.activeElement && element.contains(document.activeElement)
              ? document.activeElement.id || document.activeElement.getAttribute("href") : null;
            element.innerHTML = fresh;
            element.lastFresh = fresh;
            prepare(element);
            if (focused) {
              const back = [...element.querySelectorAll("a, button, [id]")]
                .find((one) => one.id === focused || one.getAttribute("href") === focused);
              if (back) back.focus({ preventScroll: true });
            }
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

  // A file input inside .drop takes files dropped on it.
  const drop = (zone) => {
    const input = zone.querySelector("input[type=file]");
    if (!input) return;
    const told = document.createElement("span");
    told.className = "chosen muted";
    told.setAttribute("role", "status");
    zone.append(told);
    const tell = () => { told.textContent = [...input.files].map((file) => file.name).join(", "); };
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
      for (const box of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(input.dataset.all)}"]`)) {
        box.checked = input.checked;
      }
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
})();
