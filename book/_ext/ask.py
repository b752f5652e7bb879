"""Beside the heading of every section of a page, subsections aside, a link to ask about it.

It opens a new issue of the repository that names the section.
"""

import re
from html import escape, unescape
from pathlib import Path

from repository import Repository

HEADING = re.compile(r'<h2>(.*?)<a class="headerlink" href="#([^"]+)".*?</a>(?=</h2>)', re.DOTALL)


def with_questions(body: str, page: str, repository: Repository) -> str:
    """The HTML of a page, with the links."""

    def add(heading: re.Match) -> str:
        title = unescape(re.sub(r"<[^>]+>", "", heading[1]))
        where = f"[{title}]({repository.site}{page}.html#{heading[2]})"
        address = escape(repository.question(f"{page}: {title}", f"About the section {where}:\n\n"))
        label = escape(f"Ask about the section {title}")
        return f'{heading[0]}<a class="ask" href="{address}" aria-label="{label}" title="Ask about this section">?</a>'

    return HEADING.sub(add, body)


def add_links(app, pagename, templatename, context, doctree):
    repository = Repository.of(Path(__file__).parents[2])
    if repository and doctree and app.builder.name == "html":
        context["body"] = with_questions(context["body"], pagename, repository)


def setup(app):
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True}
