"""Tables on a terminal or in a file: by rich where that is installed, else columns of plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints *rows* under their *columns*; only rich shows the *title*."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        table = Table(title=Text(title), title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold", min_width=len(column))
        for row in rows:
            table.add_row(*map(Text, row))  # brackets in them are no markup
        Console(width=None if sys.stdout.isatty() else 200).print(table)
