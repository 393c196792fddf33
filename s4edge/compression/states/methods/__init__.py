"""Methods of reduction: one per file, one signature."""
