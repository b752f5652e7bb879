"""Previews of a page in chats and search results need absolute links. GitHub's workflows know the site's address."""

import os


def address(repository):
    """Where GitHub Pages serve a repository, given as owner/name."""
    owner, name = repository.lower().split("/")
    host = f"{owner}.github.io"
    return f"https://{host}/" if name == host else f"https://{host}/{repository.split('/')[1]}/"


def set_address(app, config):
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config.html_baseurl = config.ogp_site_url = address(repository)


def setup(app):
    app.connect("config-inited", set_address)
    return {"parallel_read_safe": True}
