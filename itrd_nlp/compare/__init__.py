"""A comparison of methods under one budget: its plan, its trainings, its tables and figures.

A task and the command that trains it are handed in. Nothing here trains or knows a task.
"""
