"""The command line as ``python -m s4edge``."""

from __future__ import annotations

from s4edge.cli.main import main

if __name__ == "__main__":
    main()
