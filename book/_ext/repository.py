"""Where the book is published: the repository on GitHub, its site, its files, its notebooks in Colab."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

PUBLISHED = "gh-pages"  # the branch that holds the built site


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub at one commit."""

    name: str  # owner/repository
    commit: str

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str] = os.environ) -> "Repository | None":
        """What GitHub's workflows name, or else the remote `origin` of the clone; None where neither is on GitHub."""
        name = environ.get("GITHUB_REPOSITORY") or _github_name(_git(folder, "remote", "get-url", "origin"))
        commit = environ.get("GITHUB_SHA") or _git(folder, "rev-parse", "HEAD")
        return cls(name, commit) if name and commit else None

    @property
    def url(self) -> str:
        return f"https://github.com/{self.name}"

    @property
    def site(self) -> str:
        """Where GitHub Pages serves the book."""
        owner, repository = self.name.split("/")
        host = f"{owner.lower()}.github.io"
        return f"https://{host}/" if repository.lower() == host else f"https://{host}/{repository}/"

    def file(self, path: str) -> str:
        """The address of a file of this commit, to read it."""
        return f"{self.url}/blob/{self.commit}/{path}"

    def raw_file(self, path: str) -> str:
        """The address of a file of this commit, to show or load it."""
        return f"https://raw.githubusercontent.com/{self.name}/{self.commit}/{path}"

    def question(self, title: str, text: str) -> str:
        """The address that opens a new issue, with title and text for a reader to go on from."""
        return f"{self.url}/issues/new?{urlencode({'title': title, 'body': text})}"

    def colab(self, page: str) -> str:
        """The address that opens a page's notebook in Colab."""
        return f"https://colab.research.google.com/github/{self.name}/blob/{PUBLISHED}/notebooks/{page}.ipynb"


def _github_name(url: str) -> str | None:
    match = re.fullmatch(r"(?:https://|ssh://)?(?:[^@/]+@)?github\.com[:/]([^/]+/[^/]+?)(?:\.git)?/?", url)
    return match and match[1]


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or nothing where it fails."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
