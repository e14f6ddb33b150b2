"""The command-line scripts, importable as `itrd_nlp.scripts` where the package is installed."""
