// Modal dialogs on the browser's own <dialog>: it keeps the focus inside, closes with Escape, and gives the focus back.
import { h, setText } from "../dom.js";

function open(dialog) {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}

/** @returns {Promise<boolean>} true only when the action was chosen */
export async function confirmDialog({ title, text, action }) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), h("p", {}, text), h("div", { class: "dialog-actions" }, h("button", { class: "button", value: "cancel" }, "Cancel"), h("button", { class: "button button-danger", value: "do" }, action))),
  );
  return (await open(dialog)) === "do";
}

/** Shows a secret that can never be shown again. */
export async function secretDialog({ title, secret }) {
  const shown = h("input", { readOnly: true, value: secret, class: "secret", "aria-label": "Secret", onfocus: (event) => event.target.select() });
  const copy = h("button", { type: "button", class: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(secret);
      setText(copy, "Copied");
    } catch {
      // Without permission for the clipboard, the selected text can still be copied by hand.
      shown.focus();
      setText(copy, "Press Ctrl + C");
    }
  });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      h("p", {}, "Copy the secret now. It is kept only as a hash and can't be shown again."),
      h("div", { class: "secret-row" }, shown, copy),
      h("div", { class: "dialog-actions" }, h("button", { class: "button button-primary", value: "done" }, "I have stored it")),
    ),
  );
  await open(dialog);
  shown.value = "";
}
