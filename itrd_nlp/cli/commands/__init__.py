"""The commands, one a file: the docstring is its help, `main` parses the arguments and calls a job."""
