// An equation or a figure wider than its column scrolls inside its own box; this lets the keyboard reach it there.
// (The theme does the same for code and tables.)
function markWideBoxes() {
  for (const box of document.querySelectorAll("mjx-container[display], figure")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", () => (window.MathJax?.startup.promise ?? Promise.resolve()).then(markWideBoxes));
window.addEventListener("resize", markWideBoxes);
