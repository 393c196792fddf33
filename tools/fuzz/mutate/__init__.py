"""Changes to files of one format each; all are functions of a random number generator alone."""
