"""Distillation of a teacher into a student: `ITRDTrainer`, its arguments, the objective, the teacher and its cache.

TextBrewer is here, too, both ways. Nothing here knows a task; the losses themselves are in `itrd_nlp.losses`.
"""
