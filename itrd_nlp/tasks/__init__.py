"""Tasks, one folder each, and the jobs that are written once for all of them.

A task knows its data, its head and its metrics. A job trains, evaluates, predicts, exports or publishes.
"""
