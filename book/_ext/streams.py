"""What a program prints reaches the notebook in pieces. Join them as they came, line breaks and all.

The option nb_merge_streams of MyST-NB joins them later, but strips every piece and ends it with a line break.
"""

import nbclient.client
from traitlets import Bool


class JoiningClient(nbclient.client.NotebookClient):
    coalesce_streams = Bool(True)


def setup(app):
    nbclient.client.NotebookClient = JoiningClient  # where nbclient's execute, and so MyST-NB, looks it up
    return {"parallel_read_safe": True}
