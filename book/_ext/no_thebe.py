"""Leave sphinx-thebe out. Jupyter Book always loads it; its script names a CDN, and fails by declaring a constant twice."""


def setup(app):
    for listeners in app.events.listeners.values():
        listeners[:] = [listener for listener in listeners if listener.handler.__module__ != "sphinx_thebe"]
    return {"parallel_read_safe": True}
