"""Prints the requirements in pyproject.toml, one a line: those of the package, or those of the extra that is named."""

import sys
import tomllib
from pathlib import Path

settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
project = settings["project"]
if len(sys.argv) > 1:
    requirements = project["optional-dependencies"][sys.argv[1]]
else:
    requirements = settings["build-system"]["requires"] + project["dependencies"]
print(*requirements, sep="\n")
