// An equation wider than its column scrolls inside its own box; this lets the keyboard reach it there.
// (The theme does the same for code and tables.)
function markWideEquations() {
  for (const box of document.querySelectorAll("mjx-container[display]")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", () => window.MathJax?.startup.promise.then(markWideEquations));
window.addEventListener("resize", markWideEquations);
