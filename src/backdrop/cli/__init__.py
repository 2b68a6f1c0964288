"""The command line: `backdrop`."""

import sys

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


_BY_DUCKDB = "Query interrupted"
"""What its client makes a RuntimeError of, where Ctrl-C comes while it is at work."""


def main() -> None:
    """Run the command that was typed; an interrupt is no fault, so it leaves no traceback."""
    try:
        # Here, not above: loading the commands takes a moment, in which Ctrl-C may come.
        from backdrop.cli.commands import run

        run()
    except (KeyboardInterrupt, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != _BY_DUCKDB:
            raise
        print("Interrupted", file=sys.stderr)  # noqa: T201  no module of ours may be there yet
        sys.exit(INTERRUPTED)
