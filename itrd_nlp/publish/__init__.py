"""The outside of a finished run: model card, Hub and report, all from one record, and what they keep private.

Nothing here knows a task or trains a step; a task hands in how its answers are shown.
"""
