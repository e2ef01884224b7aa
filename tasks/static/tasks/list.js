/* The list of tasks. Where a part of the page was fetched anew, the boxes in it want their listeners. */
"use strict";
document.addEventListener("live:swapped", () => {
    const boxes = document.querySelectorAll("tr input.action-select");
    if (boxes.length > 0 && window.Actions) {
        window.Actions(boxes);
    }
});
