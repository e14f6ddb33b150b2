"""The jobs, written once for every task: fine-tune, distil, evaluate, predict, export, report and push.

A job takes a task and the arguments of the run, and returns the record of it. It knows no data and no head.
"""
