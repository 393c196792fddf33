"""What a command does from end to end, for the command line and for Python."""
