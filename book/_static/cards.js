// A card beside a reference shows what it points to while the mouse, or the keyboard's focus, rests on it: an equation, a
// figure, a theorem, a citation, the beginning of a section, a name of the package. Escape puts it away. Touch has no
// resting: there a reference is only a link. What stands on another page is fetched from the site; opened from disk
// (file://) a page may not read another one, and only citations, whose text the link carries, get a card from there.
(() => {
  const REFERENCES = ".bd-article a.reference.internal[href*='#'], .bd-article a.code-link";
  const pages = new Map(); // address: promise of a document
  const card = document.createElement("div");
  card.className = "card-of-reference tex2jax_ignore";
  card.id = "card-of-reference";
  card.setAttribute("role", "tooltip");
  let wanted = null; // the link whose card is shown, or on its way
  let timer;

  function page(url) {
    const address = url.href.split("#")[0];
    if (address === location.href.split("#")[0]) return document;
    if (url.origin !== location.origin || url.protocol === "file:") return null;
    if (!pages.has(address)) {
      const text = fetch(address).then((answer) => (answer.ok ? answer.text() : ""));
      pages.set(address, text.then((html) => new DOMParser().parseFromString(html, "text/html")).catch(() => null));
    }
    return pages.get(address);
  }

  // The elements that say what `target` is.
  function essence(target) {
    if (target.matches("div.math, figure, table, .admonition")) return [target];
    if (target.matches(".citation")) return target.querySelectorAll("p");
    if (target.matches("dt")) {
      const entry = target.parentElement.cloneNode();
      const said = document.createElement("dd");
      said.append(target.parentElement.querySelector("dd > p")?.cloneNode(true) ?? "");
      entry.append(target.cloneNode(true), said);
      return [entry];
    }
    const section = target.closest("section");
    return section ? [...section.querySelectorAll(":scope > :is(h1, h2, h3, h4), :scope > p")].slice(0, 2) : [];
  }

  // A copy of them without what can be reached by the keyboard, or is there to be clicked.
  function copy(elements) {
    const copies = [...elements].map((element) => document.importNode(element, true));
    for (const one of copies) {
      for (const e of one.querySelectorAll(".headerlink, .ask, button, script")) e.remove();
      for (const e of one.querySelectorAll("a")) e.replaceWith(...e.childNodes);
      for (const e of [one, ...one.querySelectorAll("[id], [tabindex], [title]")]) {
        for (const name of ["id", "tabindex", "title"]) e.removeAttribute(name);
      }
    }
    return copies;
  }

  async function content(link) {
    const cited = link.dataset.cited || link.title; // the title would come up as a second card
    if (/\s/.test(cited)) {
      link.dataset.cited = cited;
      link.removeAttribute("title");
      return [cited];
    }
    const there = await page(new URL(link.href));
    const target = there?.getElementById(decodeURIComponent(link.hash.slice(1)));
    return target ? copy(essence(target)) : [];
  }

  function place(link) {
    const at = link.getClientRects()[0];
    const { clientWidth, clientHeight } = document.documentElement;
    const left = Math.max(8, Math.min(at.left, clientWidth - card.offsetWidth - 8));
    const above = at.bottom + card.offsetHeight > clientHeight && at.top > card.offsetHeight;
    card.style.left = `${left + scrollX}px`;
    card.style.top = `${(above ? at.top - card.offsetHeight : at.bottom) + scrollY}px`;
  }

  function hide() {
    clearTimeout(timer);
    wanted?.removeAttribute("aria-describedby");
    wanted = null;
    card.remove();
  }

  async function show(link) {
    if (wanted === link) return;
    hide();
    wanted = link;
    const parts = await content(link);
    if (wanted !== link || !parts.length) return;
    card.replaceChildren(...parts);
    card.style.visibility = "hidden"; // until formulas of other pages are drawn, and its size is known
    document.body.append(card);
    await window.MathJax?.typesetPromise?.([card]);
    if (wanted !== link) return;
    for (const e of card.querySelectorAll("[tabindex]")) e.removeAttribute("tabindex");
    card.classList.toggle("cut", card.scrollHeight > card.clientHeight);
    place(link);
    card.style.visibility = "";
    link.setAttribute("aria-describedby", card.id);
  }

  function after(milliseconds, task, link) {
    clearTimeout(timer);
    timer = setTimeout(task, milliseconds, link);
  }

  document.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pointerType === "touch") return;
    const link = target.closest(REFERENCES);
    if (link) after(300, show, link);
    else if (card.contains(target)) clearTimeout(timer);
    else if (wanted !== document.activeElement) after(300, hide);
    else clearTimeout(timer);
  });
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches(REFERENCES) && target.matches(":focus-visible")) show(target);
    else hide();
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("click", hide);
  document.addEventListener("keydown", ({ key }) => key === "Escape" && hide());
})();
