// Shows the buttons that copy the text of the field beside them: without this script it is selected by hand.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const words = button.firstChild;
  const before = words.data;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // where the page is not served over https
    }
    words.data = "Copied";
    setTimeout(() => { words.data = before; }, 3000);
  });
}
