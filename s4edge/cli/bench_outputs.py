"""Where the answers of ``s4edge bench`` go: standard output and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s4edge.cli import terminal
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable, write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

STDOUT = Path("-")


@dataclasses.dataclass(frozen=True)
class BenchOutputs:
    """What to write beside what a person is told, and where.

    Attributes:
        saved: file of JSON.
        html: file of the page.
        markdown: file of the table, or `STDOUT`.
        as_json: print JSON and nothing else.
        verbose: say more.
    """

    saved: Path | None
    html: Path | None
    markdown: Path | None
    as_json: bool
    verbose: bool

    def check(self, read: Sequence[Path]) -> None:
        """Fail before any work where a file cannot be written."""
        named = (self.saved, self.html, self._markdown_file)
        files = [path for path in named if path is not None]
        for index, path in enumerate(files):
            check_writable(path, None, *read, *files[:index])

    @property
    def _markdown_file(self) -> Path | None:
        return None if self.markdown == STDOUT else self.markdown

    def write(self, answer: dict[str, Any], failure: str | None) -> None:
        """Write and tell an answer, all that can be.

        Raises:
            S4EdgeError: the failure, or of a file that cannot be written.
        """
        from s4edge.bench.file import result_of
        from s4edge.reports.bench.bench_page import bench_page
        from s4edge.reports.bench.markdown import bench_markdown
        from s4edge.reports.bench.table import bench_report

        self._write(
            answer,
            lambda: bench_page(answer),
            lambda: bench_markdown(answer),
            lambda: bench_report(result_of(answer), self.verbose),
            failure,
        )

    def write_comparison(self, comparison: dict[str, Any]) -> None:
        """Write and tell a comparison, all that can be.

        Raises:
            S4EdgeError: of a file that cannot be written.
        """
        from s4edge.reports.bench.compare_page import compare_page
        from s4edge.reports.bench.compare_table import compare_report
        from s4edge.reports.bench.markdown import compare_markdown

        self._write(
            comparison,
            lambda: compare_page(comparison),
            lambda: compare_markdown(comparison),
            lambda: compare_report(comparison),
            None,
        )

    def _write(
        self,
        answer: dict[str, Any],
        page: Callable[[], str],
        markdown: Callable[[], str],
        report: Callable[[], Iterable[RenderableType]],
        failure: str | None,
    ) -> None:
        from s4edge.bench import write_bench

        writers: tuple[tuple[Path | None, Callable[[Path], None]], ...] = (
            (self.saved, lambda path: write_bench(path, answer)),
            (self.html, lambda path: write_text(path, page())),
            (self._markdown_file, lambda path: write_text(path, markdown())),
        )
        for path, write in writers:
            try:
                if path is not None:
                    write(path)
            except S4EdgeError as error:
                # What was measured is told all the same.
                failure = failure or str(error)
        if self.as_json:
            terminal.emit_json(answer)
        elif self.markdown == STDOUT:
            click.echo(markdown(), nl=False)
        else:
            for part in report():
                terminal.console.print(part)
        for warning in answer["warnings"]:
            terminal.note(f"Warning: {warning}")
        if failure is not None:
            raise S4EdgeError(failure)
