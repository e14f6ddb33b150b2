"""Command lines: the commands, the parser of their arguments, exit codes and signals.

A command parses its arguments and calls a job of `itrd_nlp.tasks` or `itrd_nlp.compare`; it does no work of its own.
Nothing else in the package imports from here.
"""
