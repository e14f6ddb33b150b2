"""Distil on SQuAD 1.1 by TextBrewer's own distiller, losses and recipe, to compare with train-squad.

    itrd-nlp train-textbrewer textbrewer_minilm_t3_subset [--temperature 4 ...]

Data, batches, optimizer and schedule are given as for train-squad, and so are the results. One process; a run that
is interrupted starts anew.
"""

from itrd_nlp.cli.jobs import check_sources, distillation_groups
from itrd_nlp.cli.parser import answer_help, parse
from itrd_nlp.cli.process import record
from itrd_nlp.distillation.textbrewer_options import TextBrewerOptions
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks import DEFAULT_TASK, options_of
from itrd_nlp.tasks.jobs.arguments import StudentArguments
from itrd_nlp.training.options import TrainingOptions


def main() -> None:
    data, _ = options_of(DEFAULT_TASK)
    own = [StudentArguments, TextBrewerOptions, data, LoadingArguments, TrainingOptions]
    answer_help(own, __doc__, trains=True)
    from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
    from itrd_nlp.tasks import task_named
    from itrd_nlp.tasks.jobs.distil import distil

    task = task_named("question-answering")
    groups = distillation_groups(task, TextBrewerArguments)
    model_args, loading, data_args, args = parse(groups, description=__doc__)
    check_sources(args, model_args, data_args)
    distil(task(data_args), model_args, loading, args, record())
