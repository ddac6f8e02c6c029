"""Print the requirements of the `dev` extra of pyproject.toml, so that they can be installed without building again."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
print(*(requirement.replace(" ", "") for requirement in PROJECT["optional-dependencies"]["dev"]))
