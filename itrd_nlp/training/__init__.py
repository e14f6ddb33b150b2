"""The training of any model: a trainer that survives kills, its arguments, checkpoints, and the record of a run.

No trainer here knows a teacher, a task or the Hub; `record.py` only names them. Each trainer adds one thing to the one
before it:

- `transformers.Trainer`
- `StreamingTrainer`: data sets that are read row by row and have no length
- `ResumedStateTrainer`: a resumed run goes on as an undisturbed one
- `FreshModelTrainer`: the model of a function is known before the training
- `ResumingTrainer`: a checkpoint belongs to one run
- `ItemCountingTrainer`: micro-batches count by what their losses average
- `StoppingTrainer`: signals save a checkpoint
- `EpochEndTrainer`: a resumed run makes up for the end of an epoch
- `BaseTrainer`: whole checkpoints, the order of the batches, the evaluation
- `HubTrainer` in publish/: the Hub gets the model and its card
- `StudentTrainer` in distillation/: a student trains together with its objective
- `ITRDTrainer` in distillation/: the teachers
"""
