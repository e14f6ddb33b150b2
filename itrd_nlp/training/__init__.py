"""The training of any model: a trainer that survives kills, its arguments, checkpoints, and the record of a run.

Nothing here knows a teacher, a task or the Hub.
"""
