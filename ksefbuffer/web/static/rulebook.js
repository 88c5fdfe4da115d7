// What a rule would catch, shown while it is being written. Without this the button below the form does the same.
"use strict";
(() => {
  const form = document.querySelector("form[data-preview]");
  const shown = document.getElementById("podglad");
  if (!form || !shown) return;
  let timer = 0;
  let asked = 0;
  const ask = async () => {
    const mine = ++asked;
    try {
      const answer = await fetch(form.dataset.preview, {
        method: "POST", credentials: "same-origin", redirect: "error", body: new URLSearchParams(new FormData(form)),
      });
      // Only the answer to what stands in the form now may be shown.
      if (answer.ok && mine === asked) shown.innerHTML = await answer.text();
    } catch {
      // The next change asks again.
    }
  };
  const soon = () => { window.clearTimeout(timer); timer = window.setTimeout(ask, 400); };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  soon();
})();
