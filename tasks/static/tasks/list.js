// The list of tasks. When its rows are put in anew, the boxes in them want the listeners of Django's actions.js.

(() => {
  "use strict";

  const rows = document.getElementById("task-rows");
  if (!rows) return;
  new MutationObserver(() => {
    const boxes = rows.querySelectorAll("tr input.action-select");
    if (boxes.length && window.Actions) window.Actions(boxes);
  }).observe(rows, { childList: true });
})();
