// A button that copies the text of another element. Without this script the text can be selected all the same.
"use strict";

async function copy(text, element) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  getSelection().selectAllChildren(element); // over plain HTTP there is no clipboard to write to
  return document.execCommand("copy");
}

for (const button of document.querySelectorAll("button[data-copies]")) {
  const element = document.getElementById(button.dataset.copies);
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    let copied = false;
    try {
      copied = await copy(element.textContent, element);
    } catch {
      getSelection().selectAllChildren(element);
    }
    button.textContent = copied ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 3000);
  });
}
