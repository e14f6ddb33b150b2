"""Distil on SQuAD 1.1 by TextBrewer's own distiller, losses and recipe, to compare with train_squad.py.

    python scripts/train_textbrewer.py configs/minilm/textbrewer_minilm_t3_subset.yaml [--temperature 4 ...]

Data, batches, optimizer and schedule are given as for train_squad.py, and so are the results. One process; a run that
is interrupted starts anew.
"""

from itrd_nlp.cli.jobs import distillation_groups
from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
    from itrd_nlp.tasks import task_named
    from itrd_nlp.tasks.jobs.distil import distil

    task = task_named("question-answering")
    groups = distillation_groups(task, TextBrewerArguments)
    model_args, loading, data_args, args = parse(groups, description=__doc__)
    distil(task(data_args), model_args, loading, args, record())
