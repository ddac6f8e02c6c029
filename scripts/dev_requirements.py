"""Print the requirements of an extra of pyproject.toml (`dev`), to install them without building again."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
EXTRA = sys.argv[1] if len(sys.argv) > 1 else "dev"
print(*(requirement.replace(" ", "") for requirement in PROJECT["optional-dependencies"][EXTRA]))
