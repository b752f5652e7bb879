"""MyST to plain Markdown, for notebooks that are read where only plain Markdown is understood, such as Colab.

Directives become quotes, code blocks and tables; roles become text with links to the site. The text is parsed by
MyST's own parser, and only what it recognises is replaced: everything else stays as it was written. What has no
translation here is refused, so that no raw MyST slips through.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import yaml
from docutils.nodes import make_id
from docutils.parsers.rst import Directive as DocutilsDirective
from markdown_it.renderer import RendererHTML
from mdit_py_plugins.anchors.index import slugify
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.directives import parse_directive_text
from myst_parser.parsers.mdit import create_md_parser
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from repository import Repository
from sphinx.directives.code import LiteralInclude, LiteralIncludeReader

TITLED = ("admonition", "dropdown", "margin")
NOTES = ("note", "tip", "hint", "important", "warning", "caution", "seealso")
STATEMENTS = ("axiom", "definition", "theorem", "lemma", "proposition", "corollary", "proof", "remark", "example")
EXERCISES = ("exercise", "exercise-start", "solution", "solution-start")
ENDS = ("exercise-end", "solution-end")
SITE_ONLY = ("toctree", "tableofcontents", "bibliography", "nb-exec-table", "glue:figure")
QUOTED = (*TITLED, *NOTES, *EXERCISES, *(f"prf:{statement}" for statement in STATEMENTS))


class ConversionError(Exception):
    """What has no plain Markdown; the message names it, its page and its line."""


@dataclass(frozen=True)
class Directive:
    """A directive as it is written."""

    name: str
    argument: str
    options: dict[str, str]
    body: str
    line: int  # of its first line in the page, counted from 1
    body_line: int

    @property
    def label(self) -> str | None:
        return self.options.get("label") or self.options.get("name")

    @property
    def title(self) -> str:
        """What its box is headed with: Theorem (name), Exercise (name), or the title of an admonition."""
        if self.name in TITLED:
            return self.argument
        kind = self.name.removeprefix("prf:").partition("-")[0].capitalize()
        return f"{kind} ({self.argument})" if self.argument else kind


@dataclass(frozen=True)
class Target:
    """Something that references point to."""

    page: str
    anchor: str
    text: str  # what a reference without words of its own says


class _Anything(DocutilsDirective):
    """Has MyST split any directive into argument, options and body."""

    option_spec: ClassVar = {"any": None}
    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True


class Book:
    """All pages, and what their references point to."""

    def __init__(self, pages: dict[str, str], extensions: list[str], folder: Path, repository: Repository | None):
        """`pages` are texts by name, in the order of the book; `folder` holds their files and references.bib."""
        self.pages, self.extensions, self.folder, self.repository = pages, extensions, folder, repository
        self._markdown = _parser(extensions)
        self._entries = parse_file(str(folder / "references.bib")).entries
        self.titles: dict[str, str] = {}
        self.targets: dict[str, Target] = {}
        self._equations = 0
        for page, text in pages.items():
            self._index(page, text)

    @classmethod
    def read(cls, root: Path, repository: Repository | None) -> "Book":
        """The book whose _toc.yml and _config.yml lie in `root`."""
        names = _toc_files(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))
        config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        pages = {name: (root / "book" / f"{name}.md").read_text(encoding="utf-8") for name in names}
        return cls(pages, config["parse"]["myst_enable_extensions"], root / "book", repository)

    def parse(self, text: str) -> list:
        """MyST's tokens; inline ones say in `meta` where in their block they `start` and `end`."""
        return self._markdown.parse(text)

    def address(self, page: str, anchor: str = "") -> str:
        """Where the site has a page; nothing where no site is known."""
        return f"{self.repository.site}{page}.html{'#' if anchor else ''}{anchor}" if self.repository else ""

    def link(self, text: str, page: str, anchor: str = "") -> str:
        """A link to a page of the site, or just its text where no site is known."""
        return _link(text, self.address(page, anchor))

    def citation(self, key: str) -> tuple[str, str]:
        """Authors and year of an entry. Raises KeyError for an unknown key."""
        entry: Entry = self._entries[key]
        names = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons["author"]]
        names = [str(Text.from_latex(name)) for name in names]
        authors = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return authors, entry.fields.get("year", "")

    def _index(self, page: str, text: str) -> None:
        label = None  # of the heading that follows
        tokens = self.parse(text)
        for token, following in zip(tokens, [*tokens[1:], None]):
            if token.type == "myst_target":
                label = token.content
            elif token.type == "heading_open":
                heading = _plain(following)
                self.titles.setdefault(page, heading)
                self.targets.setdefault(f"{page}#{slugify(heading)}", Target(page, make_id(heading), heading))
                if label:
                    self.targets[label] = Target(page, label, heading)
                label = None
            elif token.type == "math_block_label":
                self._index_equation(page, token.info)
            elif directive := _directive(token, 0):
                self._index_directive(page, directive)

    def _index_equation(self, page: str, label: str) -> None:
        self._equations += 1  # through the whole book, as Sphinx counts
        self.targets[label] = Target(page, f"equation-{label}", f"({self._equations})")

    def _index_directive(self, page: str, directive: Directive) -> None:
        if directive.name == "code-cell":
            figure = directive.options.get("mystnb", {}).get("figure", {})
            if "name" in figure:
                self.targets[figure["name"]] = Target(page, figure["name"], "the figure")
        elif directive.name == "math" and directive.label:
            self._index_equation(page, directive.label)
        elif directive.label:
            self.targets[directive.label] = Target(page, directive.label, directive.title)
        if directive.name in QUOTED:
            self._index(page, directive.body)


class Converter:
    """Turns the text of one page into plain Markdown."""

    def __init__(self, book: Book, page: str, values: dict[str, str]):
        """`values` are what the page's cells handed to the prose by glue, as far as they are known."""
        self.book, self.page, self.values = book, page, values

    def convert(self, text: str, line: int = 1) -> str:
        """Plain Markdown for `text`, which begins in that line of the page. Raises ConversionError."""
        starts = [0]
        for length in map(len, text.splitlines(keepends=True)):
            starts.append(starts[-1] + length)
        edits, read_to = [], 0  # (start, end, replacement)
        for token in self.book.parse(text):
            if token.type == "inline":
                at = _positions(text, token.content, max(read_to, starts[token.map[0]]))
                if not at:
                    raise self._error(f"text with a tab in it, {token.content!r}", line + token.map[0])
                read_to = at[-1]
                for start, end, new in self._inline_edits(token, line + token.map[0]):
                    edits.append((at[start], at[end], new))
                continue
            new = self._block(token, line)
            if new is not None:
                start, end = starts[token.map[0]], starts[token.map[1]]
                old = text[start:end]
                head = re.match(r"[ \t>]*(?:[-*+]|\d+[.)])?[ \t>]*", old)[0] if token.level else ""
                rest = re.sub(r"[^>\s]", " ", head)
                end_of_line = "\n" if old.endswith("\n") else ""
                edits.append((start, end, new and head + new.replace("\n", f"\n{rest}") + end_of_line))
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text.strip("\n")

    # Blocks

    def _block(self, token, line: int) -> str | None:
        """What a block becomes; None where it stays."""
        if token.type in ("myst_target", "myst_line_comment"):
            return ""
        if token.type in ("math_block", "math_block_label"):
            return self._equation(token.content, token.info)
        directive = _directive(token, line)
        if directive is None:
            if token.type == "colon_fence":
                raise self._error(f"colon fence without a directive: {token.info!r}", line + token.map[0])
            return None
        return self._directive(directive)

    def _equation(self, tex: str, label: str | None) -> str:
        """On one line, since a quote would put its > into the formula."""
        tag = rf" \tag{{{self.book.targets[label].text[1:-1]}}}" if label else ""
        return f"$${' '.join(tex.split())}{tag}$$"

    def _directive(self, directive: Directive) -> str:
        name, argument, body = directive.name, directive.argument, directive.body
        if name in QUOTED:
            return self._box(directive)
        if name in ENDS:
            return ""
        if name in SITE_ONLY:
            return f"({self.book.link('This part is on the site', self.page)}.)"
        if name == "math":
            return self._equation(body, directive.label)
        if name in ("code-block", "code"):
            return f"```{argument}\n{body}\n```"
        if name == "literalinclude":
            return self._literalinclude(directive)
        if name in ("figure", "image"):
            picture = self._image(argument, directive.options.get("alt", ""))
            return f"{picture}\n\n{self.convert(body, directive.body_line)}".strip()
        if name == "table":
            return f"**{argument}**\n\n{self.convert(body, directive.body_line)}"
        if name == "list-table":
            return self._list_table(directive)
        if name == "eval-rst":
            return self._autodoc(directive)
        raise self._error(f"directive {{{name}}}", directive.line)

    def _box(self, directive: Directive) -> str:
        title = directive.title
        if directive.name in ("solution", "solution-start"):
            title = self._target(directive.argument, directive.line).text.replace("Exercise", "Solution", 1)
        body = directive.body
        if directive.name in NOTES:  # whose text may begin where others have their title
            title, body = directive.name.capitalize(), "\n".join(filter(None, [directive.argument, body]))
        if not title.endswith((".", "?", "!")):
            title += "."
        head = f"**{self.convert(title, directive.line)}**"
        text = self.convert(body, directive.body_line)
        return _quoted(f"{head}\n\n{text}" if text else head)

    def _literalinclude(self, directive: Directive) -> str:
        """The text that Sphinx would show, read by Sphinx."""
        spec = LiteralInclude.option_spec
        options = {key: spec[key](value if value is None else str(value)) for key, value in directive.options.items()}
        path = self.book.folder / directive.argument
        text, _ = LiteralIncludeReader(str(path), options, SimpleNamespace(source_encoding="utf-8")).read()
        return f"```{options.get('language', '')}\n{text.rstrip()}\n```"

    def _list_table(self, directive: Directive) -> str:
        rows = []
        for token in self.book.parse(directive.body):
            if token.type == "list_item_open" and token.level == 1:
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(" ".join(self.convert(token.content, directive.line).split()))
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + ":--|" * len(rows[0]))
        return "\n".join([f"**{directive.argument}**", "", *lines] if directive.argument else lines)

    def _autodoc(self, directive: Directive) -> str:
        """The names that are documented, each with a link to its documentation."""
        names = []
        for line in directive.body.splitlines():
            match = re.match(r"\.\. auto(\w+):: (\S+)$", line)
            if match:
                kind, name = match.groups()
                names.append(
                    f"- {self.book.link(f'`{name}`', self.page, f'module-{name}' if kind == 'module' else name)}"
                )
            elif line.strip() and not line.startswith(" "):
                raise self._error(f"reStructuredText {line!r}", directive.line)
        return "\n".join(names)

    # Within a block

    def _inline_edits(self, block, line: int) -> Iterator[tuple[int, int, str]]:
        """What becomes of roles, links, images and formulas: start and end in the block's content, and the new text."""
        in_link = False
        for token in block.children:
            start, end = token.meta.get("start"), token.meta.get("end")
            in_link = token.type == "link_open" or (in_link and token.type != "link_close")
            if token.type == "myst_role" and in_link:  # it would become a link in a link
                raise self._error(f"a role within a link, {block.content[start:end]}", line)
            elif token.type == "myst_role":
                yield start, end, self._role(token.meta["name"], token.content, line)
            elif token.type == "math_inline":
                yield start, end, " ".join(block.content[start:end].split())  # one line, as in _equation
            elif token.type == "image" and "://" not in token.attrs["src"]:
                yield start, end, self._image(token.attrs["src"], token.content)
            elif token.type == "link_open" and "label_end" in token.meta:
                yield from self._link_edits(token, line)
            elif token.type in ("span_open", "attr"):
                raise self._error(f"attributes in {block.content!r}", line)

    def _link_edits(self, token, line: int) -> Iterator[tuple[int, int, str]]:
        """A link to a page or heading of the book leads to the site; to a file, to the repository."""
        href, start, label_end, end = (token.attrs["href"], *(token.meta[k] for k in ("start", "label_end", "end")))
        if re.match(r"\w+:", href):
            return
        path, _, anchor = href.partition("#")
        page = path.removesuffix(".md") if path else self.page
        if page in self.book.pages:
            target = self.book.targets.get(anchor) or self.book.targets.get(f"{page}#{anchor}")
            if anchor and not target:
                raise self._error(f"link to {href!r}", line)
            target = target or Target(page, "", self.book.titles[page])
            text, address = target.text, self.book.address(target.page, target.anchor)
        elif (self.book.folder / path).exists():
            text, address = path, self._file(path)
        else:
            raise self._error(f"link to {href!r}", line)
        yield start, start + 1, "[" if address else ""
        yield label_end, end, ("" if label_end > start + 1 else text) + (f"]({address})" if address else "")

    def _role(self, name: str, content: str, line: int) -> str:
        match = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content, re.DOTALL)
        words, target = match.groups() if match else ("", content)
        if name in ("eq", "ref", "numref", "prf:ref"):
            found = self._target(target, line)
            return self.book.link(words or found.text, found.page, found.anchor)
        if name == "doc":
            if target not in self.book.titles:
                raise self._error(f"page {target!r}", line)
            return self.book.link(words or self.book.titles[target], target)
        if name in ("cite", "cite:p", "cite:t"):
            return self._citations(name, content, line)
        if name == "glue:text":
            return self.values.get(content) or self.book.link("…", self.page)
        if name == "download":
            return _link(words or target, self._file(target))
        if name.removeprefix("py:") in ("class", "exc", "func", "meth", "attr", "mod", "data"):
            words = words or (target.rpartition(".")[2] if target.startswith("~") else target)
            return self.book.link(f"`{words}`", "api", target.removeprefix("~"))
        raise self._error(f"role {{{name}}}", line)

    def _citations(self, name: str, keys: str, line: int) -> str:
        texts = []
        for key in map(str.strip, keys.split(",")):
            try:
                authors, year = self.book.citation(key)
            except KeyError:
                raise self._error(f"citation {key!r}", line) from None
            if year:
                year = f" ({year})" if name == "cite:t" else f", {year}"
            texts.append(self.book.link(authors + year, "references"))
        return ", ".join(texts) if name == "cite:t" else f"({'; '.join(texts)})"

    def _image(self, path: str, alt: str) -> str:
        if self.book.repository:
            return f"![{alt}]({self.book.repository.raw_file(f'book/{path}')})"
        return f"(A picture, to be seen in the book: {alt})"

    def _file(self, path: str) -> str:
        """Where the repository has a file beside the pages; nothing where none is known."""
        return self.book.repository.file(f"book/{path}") if self.book.repository else ""

    def _target(self, label: str, line: int) -> Target:
        try:
            return self.book.targets[label]
        except KeyError:
            raise self._error(f"reference to {label!r}", line) from None

    def _error(self, what: str, line: int) -> ConversionError:
        return ConversionError(f"{self.page}.md, line {line}: no plain Markdown for {what}")


def _parser(extensions: list[str]):
    """MyST's parser, whose inline tokens say where they stand, which markdown-it keeps to itself."""
    parser = create_md_parser(MdParserConfig(enable_extensions=set(extensions)), RendererHTML)
    rules = {rule.name: rule.fn for rule in parser.inline.ruler.__rules__}
    for name in ("myst_role", "math_inline", "link", "image"):
        parser.inline.ruler.at(name, _noting_place(rules[name]))
    return parser


def _noting_place(rule):
    def noting(state, silent):
        start, n = state.pos, len(state.tokens)
        found = rule(state, silent)
        if found and not silent:
            token = next(token for token in state.tokens[n:] if token.type != "text")
            token.meta = {**token.meta, "start": start, "end": state.pos}
            if token.type == "link_open":
                token.meta["label_end"] = state.md.helpers.parseLinkLabel(state, start, True)
        return found

    return noting


def _positions(text: str, content: str, start: int) -> list[int]:
    """Where in `text`, from `start`, each character of a block's `content` stands, and where it ends.

    The parser has taken away what stands before a line (indentation, >) and the backslash of a | in a table. Tabs, for
    which it puts spaces, are not found again: then the list is empty.
    """
    patterns = {"\n": r"\n([ \t>]*?)", "|": r"\\?\|"}
    match = re.compile("".join(patterns.get(c) or re.escape(c) for c in content)).search(text, start)
    if not match:
        return []
    positions, at, breaks = [], match.start(), 0
    for character in content:
        if character == "|" and text[at] == "\\":
            at += 1
        positions.append(at)
        at += 1
        if character == "\n":
            breaks += 1
            at = match.end(breaks)
    return [*positions, at]


def _directive(token, line: int) -> Directive | None:
    """The directive that a fence is, if it is one; `line` is where the parsed text begins in the page."""
    match = token.type in ("fence", "colon_fence") and re.match(r"\{([^}]+)\}\s*(.*)", token.info)
    if not match:
        return None
    parsed = parse_directive_text(_Anything, match[2], token.content, validate_options=False)
    first = line + token.map[0]
    argument = parsed.arguments[0] if parsed.arguments else ""
    return Directive(match[1], argument, parsed.options, "\n".join(parsed.body), first, first + 1 + parsed.body_offset)


def _plain(inline) -> str:
    return "".join(token.content for token in inline.children)


def _link(text: str, address: str) -> str:
    return f"[{text}]({address})" if address else text


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _toc_files(toc) -> Iterator[str]:
    """The pages that a _toc.yml names, in its order."""
    if isinstance(toc, list):
        for part in toc:
            yield from _toc_files(part)
    elif isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from _toc_files(value)
