"""Judge a finished student and push it to the Hub, in one commit.

    python examples/evaluate_and_push.py runs/quickstart/student assets/squad/dev-v1.1.json USER/NAME

Log in by `hf auth login` first. Without an account, try it on a Hub of this machine, which forgets all at its end:

    python tests/hub/server.py python examples/evaluate_and_push.py out/student out/dev.json user/student

`out/student` is what `examples/distil_question_answering.py` leaves.
"""

import sys

from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs.evaluate import evaluate
from itrd_nlp.tasks.jobs.push import push_student
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.record import RunRecord

folder, questions, repo_id = sys.argv[1:]

# The model is judged once more, and must be as good as results.json in its folder says.
record, answers = evaluate(QuestionAnswering(DataArguments(validation_file=questions)), folder, LoadingArguments())
recorded = RunRecord.read(folder)
if recorded is None or recorded.signature != record.signature:
    print(f"results.json in {folder} is about other questions, so its scores cannot be compared.")
elif abs(recorded.scores["f1"] - record.scores["f1"]) > 0.01:
    sys.exit(f"F1 is {record.scores['f1']:.2f}, but results.json says {recorded.scores['f1']:.2f}.")

# The files are checked before a byte is sent: model, tokenizer, results.json and card, and nothing else of the folder.
report = push_student(folder, repo_id, private=True)
done = "pushed" if report.changed else "found unchanged"
print(f"F1 {record.scores['f1']:.1f} on {len(answers)} questions; {len(report.files)} files {done} at {report.url}")
