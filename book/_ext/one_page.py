"""The book as one long page, for printing: `jupyter-book build book --builder singlehtml`.

Sphinx-proof and sphinx-exercise register their nodes for this builder by name; Sphinx then forgets all that is
registered for HTML in general. Give it both.
"""


def share_handlers(app):
    handlers = app.registry.translation_handlers
    if app.builder.name in handlers:
        handlers[app.builder.name] = {**handlers[app.builder.format], **handlers[app.builder.name]}


def setup(app):
    app.connect("builder-inited", share_handlers)
    return {"parallel_read_safe": True}
