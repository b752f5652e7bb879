"""How the build talks to the kernels of the pages.

Through sockets in a private folder, where the system has them: over TCP every user of the machine could listen, and
each kernel prints a warning that says so. And what a program prints reaches the notebook in pieces, which are joined as
they came, line breaks and all; the option nb_merge_streams of MyST-NB joins them later, but strips every piece and ends
it with a line break.
"""

import os
import tempfile
from contextlib import asynccontextmanager

import nbclient.client
import zmq
from traitlets import Bool


class NotebookClient(nbclient.client.NotebookClient):
    coalesce_streams = Bool(True)

    @asynccontextmanager
    async def async_setup_kernel(self, **options):
        with tempfile.TemporaryDirectory() as folder:
            manager = self.create_kernel_manager()
            # Jupyter's own address would leave files in the folder of the pages; it appends "-1" to "-5".
            address = os.path.join(folder, "kernel")
            if os.name == "posix" and len(os.fsencode(address)) + 2 <= zmq.IPC_PATH_MAX_LEN:
                manager.transport, manager.ip = "ipc", address
            async with super().async_setup_kernel(**options):
                yield


def setup(app):
    nbclient.client.NotebookClient = NotebookClient  # where nbclient's execute, and so MyST-NB, looks it up
    return {"parallel_read_safe": True}
