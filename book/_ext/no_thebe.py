"""Leave sphinx-thebe out. Jupyter Book always loads it; its script would fetch from a CDN, and fails before that."""


def setup(app):
    for listeners in app.events.listeners.values():
        listeners[:] = [listener for listener in listeners if listener.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]
    return {"parallel_read_safe": True}
