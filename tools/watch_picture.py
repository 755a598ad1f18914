"""watch_picture.py FILE.svg: draws, as `watch` does, what `python -m pjfail watch --json` printed: standard input.

docs/watch.svg is made by it, of a program whose first server had fallen silent.
"""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from pjfail.cli.control.screen import View, render

WIDTH, HEIGHT = 124, 30


def main(file: Path) -> None:
    console = Console(
        width=WIDTH, height=HEIGHT, record=True, file=StringIO(), color_system="truecolor", highlight=False
    )
    view = View(json.load(sys.stdin))
    view.select(0)
    console.print(render(view, WIDTH, HEIGHT))
    drawn = console.export_svg(title="python -m pjfail watch", unique_id="watch")
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # fetched from the network else
    file.write_text(re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
