"""Previews of a page in chats and search results need absolute links. The repository says where its site is served."""

from pathlib import Path

from repository import Repository


def set_address(app, config):
    if repository := Repository.of(Path(__file__).parents[2]):
        config.html_baseurl = config.ogp_site_url = repository.site


def setup(app):
    app.connect("config-inited", set_address)
    return {"parallel_read_safe": True}
