"""The model card of a student, or of a fine-tuned teacher, from its ``results.json``.

What the run did not record is left out; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from itrd_nlp import __version__
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.publish.privacy import last_part, public_value
from itrd_nlp.tasks.offline_assets import ASSETS

CARD_NAME = "README.md"
SQUAD = "rajpurkar/squad"
PAPER = "https://arxiv.org/abs/2112.00459"
CITATION = """\
@inproceedings{miles2022itrd,
  title     = {Information Theoretic Representation Distillation},
  author    = {Miles, Roy and Lopez-Rodriguez, Adrian and Mikolajczyk, Krystian},
  booktitle = {British Machine Vision Conference (BMVC)},
  year      = {2022}
}"""
OBJECTIVE_ARGUMENTS = (
    "w_task",
    "w_kd",
    "temperature",
    "beta_corr",
    "beta_mi",
    "alpha",
    "corr_view",
    "mi_view",
    "layer_reduction",
)

_METRICS = {"exact_match": "Exact match", "accuracy": "Accuracy", "f1": "F1"}
# The end of a model's class -> the Hub's name of its task, and how the card puts it.
_TASKS = {
    "ForQuestionAnswering": ("question-answering", "extractive question answering"),
    "ForSequenceClassification": ("text-classification", "text classification"),
    "ForTokenClassification": ("token-classification", "token classification"),
}
_MARK = re.compile(r"\n<!-- written by itrd_nlp from results\.json ([0-9a-f]{16}) -->\n\Z")


def model_card(
    results: Mapping[str, Any],
    folder: str | Path | None = None,
    *,
    repo_id: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """Write a model card from what a run knows.

    Args:
        results: the content of ``results.json``. With a ``teacher`` it is a student, else a model that was fine-tuned.
            Every key is optional. Paths lose their folders, and names of users, hosts and secrets are taken out.
        folder: of the model; its ``config.json`` says which head it has.
        repo_id: where it goes on the Hub, for the lines that show how to load it. Default: the folder's name.
        license: an identifier of the Hub such as ``apache-2.0``. Default: what ``results`` say, else none.

    Raises:
        UserError: ``license`` is no such identifier.

    Returns:
        The card. Its last line is a mark by which `is_generated` knows that nobody has edited it since.

    Example:
        >>> model_card(json.loads(Path("runs/student/results.json").read_text()), "runs/student").save("README.md")
    """
    run = _Run(public_value(dict(results)), folder, repo_id)
    sections = (
        _summary(run),
        _results(run),
        _use(run),
        _objective(run),
        _data(run),
        _command(run),
        _environment(run),
        _limits(run),
        _citation(run),
    )
    body = "\n\n".join(section for section in sections if section)
    card = ModelCard(f"---\n{_metadata(run, license).to_yaml()}\n---\n\n{body}\n")
    card.text += f"\n<!-- written by itrd_nlp from results.json {_digest(str(card))} -->\n"
    return card


def is_generated(card: str) -> bool:
    """Whether the text of a card is as `model_card` wrote it, so that writing it anew loses nothing."""
    mark = _MARK.search(card)
    return mark is not None and mark[1] == _digest(card[: mark.start()])


def license_of(folder: str | Path) -> str | None:
    """The license that the card in a model's folder names, None where there is no card or no license in it."""
    path = Path(folder) / CARD_NAME
    if not path.is_file():
        return None
    try:
        found = ModelCard.load(path, ignore_metadata_errors=True).data.license
    except (ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, str) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- what a run knows ----


class _Run:
    """The results, and what follows from them."""

    def __init__(
        self, results: dict[str, Any], folder: str | Path | None, repo_id: str | None
    ) -> None:
        self.results = results
        self.arguments: dict[str, Any] = results.get("arguments", {})
        self.teacher: dict[str, Any] | None = results.get("teacher")
        self.environment: dict[str, Any] = results.get("environment", {})
        self.repo_id = repo_id
        path = Path(folder) if folder is not None else None
        self.name = _one_line(
            repo_id.rpartition("/")[2] if repo_id else path.resolve().name if path else "model"
        )
        self.architecture = _architecture(path)

    @property
    def is_itrd(self) -> bool:
        """Whether this package's objective made it; a run by another library says so as its `method`."""
        return self.teacher is not None and "method" not in self.results

    @property
    def answers_questions(self) -> bool:
        """Whether the model has a span head."""
        return self.task is not None and self.task[0] == "question-answering"

    @property
    def task(self) -> tuple[str, str] | None:
        """The Hub's name of the task and that of people. Without a configuration the metrics may tell."""
        if self.architecture is None:
            return _TASKS["ForQuestionAnswering"] if "exact_match" in self.results else None
        return next((task for end, task in _TASKS.items() if self.architecture.endswith(end)), None)

    def setting(self, name: str) -> Any:
        """An argument of the run, None where it is not known.

        results.json has those that are not their defaults; the defaults are known where the versions are the same.
        """
        if name in self.arguments:
            return self.arguments[name]
        versions = {"itrd_nlp": __version__, "transformers": transformers.__version__}
        if any(self.environment.get(package) != version for package, version in versions.items()):
            return None
        field = ITRDTrainingArguments.__dataclass_fields__.get(name)
        return field.default if field is not None else None

    def data_set(self, split: str) -> dict[str, Any] | None:
        """What is known of the data of a split: `name`, `questions`, `sha256` of a file, `revision`.

        Args:
            split: train, unlabelled or validation.
        """
        found = self.results.get("datasets", {}).get(split)
        if found is None and f"{split}_file" in self.arguments:
            name = str(self.arguments[f"{split}_file"])
            local = name.endswith(".json")
            found = {"name": last_part(name) if local else name} | ({"file": True} if local else {})
        return found

    def hub_data_set(self, split: str) -> str | None:
        """The id on the Hub, where the data came from there or are a file that is known to be the same."""
        data = self.data_set(split)
        if data is None:
            return None
        if data["name"] == "squad" or data.get("sha256") in ASSETS["squad"].files.values():
            return SQUAD
        return data["name"] if not {"sha256", "file"} & data.keys() else None

    def is_subset(self, split: str) -> bool:
        """Whether questions were drawn from the data, and not all taken."""
        name = {"validation": "eval"}.get(split, split)
        most = self.arguments.get(f"max_{name}_samples")
        return most is not None and most == (self.data_set(split) or {}).get("questions", most)

    @property
    def base_model(self) -> str | None:
        """The model on the Hub that this one comes from. A folder's name, which has no namespace, is none."""
        teacher = self.teacher or {}
        names = (teacher.get("name"), teacher.get("base_model"), self.results.get("base_model"))
        return next(
            (name for name in names if name and re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None
        )


def _architecture(folder: Path | None) -> str | None:
    path = folder / "config.json" if folder is not None else None
    if path is None or not path.is_file():
        return None
    names = json.loads(path.read_text(encoding="utf-8")).get("architectures")
    return names[0] if names else None


# ---- the metadata ----


def _metadata(run: _Run, license: str | None) -> ModelCardData:
    """The YAML block, with ``model-index``."""
    teacher = run.teacher or {}
    data_sets = list(dict.fromkeys(filter(None, map(run.hub_data_set, ("train", "validation")))))
    evaluations = _evaluations(run)
    tags = ["knowledge-distillation"] if run.teacher is not None else []
    tags += ["itrd"] if run.is_itrd else []
    if run.answers_questions:
        tags.append("extractive-question-answering")
    return ModelCardData(
        language="en" if SQUAD in data_sets else None,
        license=_license(license or run.results.get("license") or teacher.get("license")),
        library_name="transformers",
        pipeline_tag=run.task[0] if run.task is not None else None,
        base_model=run.base_model,
        datasets=data_sets or None,
        metrics=[result.metric_type for result in evaluations] or None,
        tags=tags or None,
        model_name=run.name if evaluations else None,
        eval_results=evaluations or None,
    )


def _license(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise UserError(
            f"license is {name!r}, but must be an identifier of the Hub such as apache-2.0, mit or other."
        )
    return name


def _evaluations(run: _Run) -> list[EvalResult]:
    data = run.data_set("validation")
    if data is None or run.task is None:
        return []
    hub_id = run.hub_data_set("validation")
    name = "SQuAD 1.1" if hub_id == SQUAD else data["name"]
    if run.is_subset("validation"):
        noun = "questions" if run.answers_questions else "rows"
        name += f" (subset of {run.arguments['max_eval_samples']:,} {noun})"
    return [
        EvalResult(
            task_type=run.task[0],
            task_name=run.task[1].capitalize(),
            dataset_type=hub_id or _one_line(data["name"]),
            dataset_name=_one_line(name),
            dataset_split="validation",
            dataset_revision=data.get("revision"),
            metric_type=metric,
            metric_name=label,
            metric_value=round(run.results[metric], 2),
        )
        for metric, label in _METRICS.items()
        if metric in run.results
    ]


# ---- the sections ----


def _summary(run: _Run) -> str:
    layers = run.results.get("layers")
    what = f"A {layers}-layer encoder" if layers else "An encoder"
    if run.task is not None:
        what += f" for {run.task[1]}"
    base = run.results.get("base_model")
    if run.teacher is not None:
        teacher = f"teacher {_text(run.teacher['name'])}" if "name" in run.teacher else "teacher"
        if "layers" in run.teacher:
            teacher += f" ({run.teacher['layers']} layers)"
        by = f"[Information Theoretic Representation Distillation]({PAPER})"
        if not run.is_itrd:
            by = f"{_text(run.results['method'])}, to compare with,"
        what += f", distilled from its {teacher} by {by} with `itrd_nlp`."
        base = run.teacher.get("base_model")
        if base:
            what += f" The teacher was fine-tuned from {_text(base)}."
    else:
        what += f", fine-tuned{f' from {_text(base)}' if base else ''} with `itrd_nlp`."
    return f"# {_text(run.name)}\n\n{what} It is an ordinary checkpoint of transformers."


def _results(run: _Run) -> str:
    def row(name: str, results: Mapping[str, Any]) -> list[str]:
        parameters = results.get("parameters")
        return [
            name,
            _number(results.get("layers"), ""),
            _number(results.get("exact_match"), ".2f"),
            _number(results.get("accuracy"), ".2f"),
            _number(results.get("f1"), ".2f"),
            "" if parameters is None else f"{parameters / 1e6:.1f} M",
            _number(results.get("megabytes_fp32"), ".1f"),
            _number(results.get("ms_per_question"), ".1f"),
        ]

    header = ["", "layers", "EM", "accuracy", "F1", "parameters", "MB (fp32)", "ms per question"]
    rows = [row("this model", run.results)]
    if run.teacher is not None:
        name = f" {_text(run.teacher['name'])}" if "name" in run.teacher else ""
        rows.insert(0, row(f"teacher{name}", run.teacher))
    known = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    if len(known) == 1:
        return ""
    table = _table([header[i] for i in known], [[row[i] for i in known] for row in rows])
    notes = []
    if any(metric in run.results for metric in _METRICS):
        notes.append(f"Measured on {_questions(run, 'validation')}, in percent.")
    if "ms_per_question" in run.results and "machine" in run.environment:
        notes.append(f"Milliseconds at batch size 1 on {_text(run.environment['machine'])}.")
    return "## Results\n\n" + table + ("\n\n" + " ".join(notes) if notes else "")


def _questions(run: _Run, split: str) -> str:
    """Which questions were used, in words."""
    data = run.data_set(split)
    count = (data or {}).get("questions", (data or {}).get("rows"))
    if count is None and split == "validation":
        count = run.results.get("questions")
    noun = "questions" if run.task is None or run.answers_questions else "rows"
    words = f"{count:,} {noun}" if count is not None else noun
    if data is None:
        return words
    name = _text(data["name"])
    if run.hub_data_set(split) == SQUAD and data["name"] != SQUAD:
        name += " (SQuAD 1.1)"
    if not run.is_subset(split):
        return f"{words} of {name}"
    seed = run.arguments.get("data_subset_seed")
    with_seed = f" with seed {_text(seed)}" if seed is not None else ""
    return f"a subset of {words}, drawn from {name}{with_seed}"


def _use(run: _Run) -> str:
    name = json.dumps(run.repo_id or run.name)
    if not run.answers_questions:
        if run.architecture is None:
            return ""
        return "## Use\n\n" + _fence(
            f"from transformers import AutoTokenizer, {run.architecture}\n\n"
            f"tokenizer = AutoTokenizer.from_pretrained({name})\n"
            f"model = {run.architecture}.from_pretrained({name})",
            "python",
        )
    plain = f"""\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForQuestionAnswering.from_pretrained({name})

question = "Where does the Rhine begin?"
context = "The Rhine begins in the Swiss Alps and flows to the North Sea."
inputs = tokenizer(question, context, truncation="only_second", max_length={_max_length(run)},
                   return_offsets_mapping=True, return_tensors="pt")
offsets = inputs.pop("offset_mapping")[0]
outside = torch.tensor([part != 1 for part in inputs.sequence_ids(0)])
with torch.inference_mode():
    output = model(**inputs)
start = output.start_logits[0].masked_fill(outside, -torch.inf)
end = output.end_logits[0].masked_fill(outside, -torch.inf)
scores = start.unsqueeze(1) + end
allowed = torch.ones_like(scores).triu().tril(29).bool()  # at most 30 tokens, the end not before the start
first, last = divmod(scores.masked_fill(~allowed, -torch.inf).argmax().item(), len(end))
print(context[offsets[first][0] : offsets[last][1]])"""
    pipeline = f"""\
from itrd_nlp.tasks.question_answering.pipeline import load_pipeline

answer = load_pipeline({name})(question=question, context=context)
print(answer["answer"], answer["score"], answer["start"], answer["end"])"""
    return (
        "## Use\n\nWith transformers alone:\n\n"
        + _fence(plain, "python")
        + "\n\nWith `itrd_nlp`, which also reads long contexts in windows and gives a score between 0 and 1:\n\n"
        + _fence(pipeline, "python")
    )


def _max_length(run: _Run) -> int:
    return int(run.arguments.get("max_length", 384))


def _objective(run: _Run) -> str:
    if not run.is_itrd:
        return ""
    parts = ["## Objective"]
    known = {name: run.setting(name) for name in OBJECTIVE_ARGUMENTS}
    rows = [[f"`{name}`", _text(value)] for name, value in known.items() if value is not None]
    if rows:
        parts.append(
            "`w_task` · task loss + `w_kd` · T² KL(teacher ‖ student) + `beta_corr` · correlation loss + `beta_mi` · "
            "mutual information loss, the last two over the layer pairs:"
        )
        parts.append(_table(["argument", "value"], rows))
    warm_start = run.arguments.get("warm_start_ratio")
    if warm_start:
        parts.append(f"In the first {warm_start:.0%} of the steps the layer pairs alone count.")
    fade = run.arguments.get("fade_ratio")
    if fade:
        parts.append(
            f"Over the last {fade:.0%} of the steps the weights of the layer pairs fall to 0."
        )
    more = run.results.get("more_teachers")
    if more:
        names = ", ".join(_text(other.get("name", "another")) for other in more)
        parts.append(f"KD learns from the mean prediction of the teacher and of {names}.")
    peers = run.arguments.get("peer_losses")
    if isinstance(peers, Mapping) and peers:
        parts.append("Losses of other papers beside them, by their classes:")
        rows = [[f"`{_code(name)}`", _text(weight)] for name, weight in peers.items()]
        parts.append(_table(["loss", "weight"], rows))
    pairs = run.results.get("layer_pairs")
    if pairs:
        split = [str(pair).split(":") for pair in pairs]
        rows = [[_text(student), _text(teacher)] for student, teacher in split]
        parts.append("Which layer learns from which (0: the embeddings):")
        parts.append(_table(["student layer", "teacher layer"], rows))
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _data(run: _Run) -> str:
    lines = []
    for split, verb in (
        ("train", "Trained"),
        ("unlabelled", "Taught by the teacher alone, no answers read,"),
        ("validation", "Evaluated"),
    ):
        data = run.data_set(split)
        if data is None:
            continue
        line = f"- {verb} on {_questions(run, split)}"
        if "sha256" in data:
            line += f"; sha256 of the file: `{_code(data['sha256'])}`"
        if "revision" in data:
            line += f"; revision `{_code(data['revision'])}`"
        lines.append(line + ".")
    return "## Data\n\n" + "\n".join(lines) if lines else ""


def _command(run: _Run) -> str:
    parts = []
    if "command" in run.results:
        parts.append(_fence(run.results["command"], "bash"))
    config = run.results.get("config")
    if config:
        parts += [f"{_text(config['name'])}:", _fence(config["text"].strip("\n"), "yaml")]
    elif run.arguments:
        text = json.dumps(run.arguments, indent=2, sort_keys=True)
        parts += ["Arguments that are not their defaults:", _fence(text, "json")]
    return "\n\n".join(["## Command", *parts]) if parts else ""


def _environment(run: _Run) -> str:
    lines = []
    seed = run.setting("seed")
    if seed is not None:
        lines.append(f"- seed: {_text(seed)}")
    if "steps" in run.results:
        lines.append(f"- optimizer steps: {_number(run.results['steps'], ',')}")
    if "train_seconds" in run.results:
        lines.append(f"- training: {_number(run.results['train_seconds'], ',.0f')} s")
    lines += [f"- {_text(name)}: {_text(version)}" for name, version in run.environment.items()]
    return "## Versions and seed\n\n" + "\n".join(lines) if lines else ""


def _limits(run: _Run) -> str:
    if not run.answers_questions:
        return ""
    limits = [
        "The model marks a span of the context it is given; it knows and writes nothing else."
    ]
    if run.hub_data_set("train") == SQUAD:
        limits.append(
            "SQuAD 1.1 is English Wikipedia, and each of its questions has an answer in its context: other languages "
            "and other kinds of text are not tested, and the model answers also where the context has no answer."
        )
    if "exact_match" in run.results:
        limits.append(f"The figures above are of {_questions(run, 'validation')}, and of one run.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _citation(run: _Run) -> str:
    if not run.is_itrd:
        return ""
    return f"## Citation\n\nThe method is of [this paper]({PAPER}):\n\n{_fence(CITATION, 'bibtex')}"


# ---- markdown ----


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())


def _text(value: Any) -> str:
    """A value as text of one line in which nothing is markup, also not in a table."""
    return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", _one_line(value))


def _code(value: Any) -> str:
    """A value for a code span, in which no escape would count."""
    return _one_line(value).replace("`", "'")


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _fence(text: str, language: str) -> str:
    """A code block whose fence is longer than every run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
