"""Methods compared under one budget: what to run, running it, and what came out as tables and figures.

A task and the command that trains it are handed in. Nothing here trains or knows a task.
"""
