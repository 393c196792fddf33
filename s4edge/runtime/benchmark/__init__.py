"""What a benchmark does: processes, rounds, warnings, results; also on another machine."""
