"""Read (and so run) a page again when what it computes with has changed: odelib's sources, its data, the records, the
scripts of its figures.

Sphinx looks only at the page's own file, so that without this a warm build would show old results without a word.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PATTERNS = (
    "odelib/**/*.py",
    "odelib/**/*.npz",
    "book/figures/*",
    "book/results/**/*.json",
    "book/results/**/*.safetensors",
)


def depend_on_sources(app, docname, source):
    if "{code-cell}" in source[0]:
        for pattern in PATTERNS:
            for path in ROOT.glob(pattern):
                app.env.note_dependency(str(path))


def setup(app):
    app.connect("source-read", depend_on_sources)
    return {"parallel_read_safe": True}
