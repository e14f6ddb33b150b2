"""Distillation of a teacher into a student: `ITRDTrainer`, its arguments, the objective, the teacher and its cache.

TextBrewer is here, too, both ways. Nothing here knows a task, but for TextBrewer's recipe, which reads spans. The
losses themselves are in `itrd_nlp.losses`.
"""
