"""Reports of a benchmark: tables, pages, plots. Needs neither torch nor scipy nor matplotlib."""
