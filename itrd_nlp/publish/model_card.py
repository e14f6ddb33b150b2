"""The model card of a student, or of a fine-tuned teacher, from the record of its run.

Unknown fields of the record are left out; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from itrd_nlp.publish.licenses import License, chosen_license, recorded_license
from itrd_nlp.publish.markdown import as_code, as_number, as_table, as_text, fence, one_line
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.publish.privacy import public_value
from itrd_nlp.publish.run_facts import RunFacts, with_local_data
from itrd_nlp.training.record import DataRecord, ModelRecord, RunRecord

PAPER = "https://arxiv.org/abs/2112.00459"
CITATION = """\
@inproceedings{miles2022itrd,
  title     = {Information Theoretic Representation Distillation},
  author    = {Miles, Roy and Lopez-Rodriguez, Adrian and Mikolajczyk, Krystian},
  booktitle = {British Machine Vision Conference (BMVC)},
  year      = {2022}
}"""
_MARK = re.compile(r"\n<!-- written by itrd_nlp from results\.json ([0-9a-f]{16}) -->\n\Z")


def model_card(
    record: RunRecord,
    folder: str | Path | None = None,
    *,
    page: TaskPage | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """Write a model card from the record of a run.

    Args:
        record: of the run. With a teacher the model is a student, else it was fine-tuned. Every field may be unknown.
            Paths lose their folders, and names of users, hosts and secrets are taken out.
        folder: of the model; its ``config.json`` says which head it has.
        page: how its task is shown. Default: by the class of the head in ``config.json``.
        repo_id: where it goes on the Hub, for the lines that show how to load it. Default: the folder's name.
        license: an identifier of the Hub such as ``apache-2.0``. Default: the record's, else the teacher's. Where the
            Hub does not list that one, the card says ``other`` and its name.

    Raises:
        UserError: ``license`` is no such identifier.

    Returns:
        The card. Its last line is a mark by which `is_generated` knows that nobody has edited it since.

    Example:
        >>> model_card(RunRecord.read("runs/student"), "runs/student").save("README.md")  # doctest: +SKIP
    """
    public = RunRecord.model_validate(public_value(with_local_data(record).as_json()))
    run = RunFacts(public, folder, page, repo_id)
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- the metadata ----


def _metadata(run: RunFacts, license: str | None) -> ModelCardData:
    """The YAML block, with ``model-index``."""
    found = _license(run, license)
    data_sets = list(dict.fromkeys(filter(None, map(run.hub_data_set, ("train", "validation")))))
    known = [data for data in map(run.known_data, ("train", "validation")) if data is not None]
    evaluations = _evaluations(run)
    tags = ["knowledge-distillation"] if run.teacher is not None else []
    tags += ["itrd"] if run.is_itrd else []
    tags += run.page.tags
    return ModelCardData(
        language=next((data.language for data in known if data.language), None),
        license=None if found is None else found.identifier,
        license_name=None if found is None else found.name,
        library_name="transformers",
        pipeline_tag=run.page.pipeline_tag,
        base_model=run.base_model,
        datasets=data_sets or None,
        metrics=[result.metric_type for result in evaluations] or None,
        tags=tags or None,
        model_name=run.name if evaluations else None,
        eval_results=evaluations or None,
    )


def _own_type(data: DataRecord) -> str:
    """The type of data that are on no Hub, in the form that the Hub asks for. That of a folder is no id of others."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", data.name) or "file"
    return name if data.sha256 is not None or "." in name else f"{name}-folder"


def _license(run: RunFacts, chosen: str | None) -> License | None:
    """The license that somebody asks for, else that of the record, else the teacher's."""
    if chosen is not None:
        return chosen_license(chosen)
    return recorded_license(run.record.license or (run.teacher or ModelRecord()).license)


def _evaluations(run: RunFacts) -> list[EvalResult]:
    data = run.data_set("validation")
    if data is None or run.page.pipeline_tag is None or run.page.title is None:
        return []
    known = run.known_data("validation")
    name = known.name if known is not None else data.name
    if run.is_held_out:
        name += " (held out of the training)"
    elif run.is_subset("validation"):
        count = data.examples if data.examples is not None else run.number("max_eval_samples")
        name += f" (subset{'' if count is None else f' of {count:,} {run.page.unit}'})"
    return [
        EvalResult(
            task_type=run.page.pipeline_tag,
            task_name=run.page.title.capitalize(),
            dataset_type=run.hub_data_set("validation") or _own_type(data),
            dataset_name=one_line(name),
            dataset_config=(data.model_extra or {}).get("config"),
            dataset_split=run.judged_split,
            dataset_revision=data.revision,
            metric_type=metric,
            metric_name=metric.replace("_", " ").capitalize(),
            metric_value=round(value, 2),
        )
        for metric, value in run.record.scores.items()
    ]


# ---- the sections ----


def _summary(run: RunFacts) -> str:
    layers = run.record.layers
    quantised = run.record.quantised
    what = f"A {layers}-layer encoder" if layers else "An encoder"
    if run.page.title is not None:
        what += f" for {run.page.title}"
    base = run.record.base_model
    if run.teacher is not None:
        teacher = f"teacher {as_text(run.teacher.name)}" if run.teacher.name else "teacher"
        if run.teacher.layers is not None:
            teacher += f" ({run.teacher.layers} layers)"
        by = f"[Information Theoretic Representation Distillation]({PAPER})"
        if not run.is_itrd:
            by = f"{as_text(run.record.method)}, to compare with,"
        what += f", distilled from its {teacher} by {by} with `itrd_nlp`."
        base = run.teacher.base_model
        if base:
            what += f" The teacher was fine-tuned from {as_text(base)}."
    elif quantised is None or run.record.train_seconds is not None:
        what += f", fine-tuned{f' from {as_text(base)}' if base else ''} with `itrd_nlp`."
    else:
        what += f", quantised{f' from {as_text(base)}' if base else ''} with `itrd_nlp`."
    return f"# {as_text(run.name)}\n\n{what} {_form(run)}"


def _form(run: RunFacts) -> str:
    """The form of the weights, and the library that reads them."""
    quantised = run.record.quantised
    if quantised is None:
        return "It is an ordinary checkpoint of transformers."
    how = "rounded after the training"
    if quantised.trained_layers:
        how = "with the values that its training in few bits saw"
    return (
        f"The linear layers of its repeated layers have {as_text(quantised.weights)} weights by "
        f"{as_text(quantised.library)}, {how}; embeddings and head are in fp32. transformers loads it where torchao is "
        f"installed. Of the answers {quantised.same_answers:.1f} % are those of the model before."
    )


def _results(run: RunFacts) -> str:
    metrics = run.record.metrics

    def row(name: str, model: ModelRecord) -> list[str]:
        return [
            name,
            as_number(model.layers, ""),
            *(as_number(model.scores.get(metric), ".2f") for metric in metrics),
            as_number(model.perplexity, ".2f"),
            "" if model.parameters is None else f"{model.parameters / 1e6:.1f} M",
            as_number(model.stored_megabytes, ".1f"),
            as_number(model.ms_per_question, ".1f"),
        ]

    one = run.page.one
    quantised = run.record.quantised
    header = ["", "layers", *metrics.values(), "pseudo-perplexity", "parameters"]
    header += ["MB (fp32)" if quantised is None else "MB", f"ms per {one}"]
    rows = [row("this model", run.record)]
    if quantised is not None:
        rows.insert(0, row("before, in fp32", quantised.before))
    if run.teacher is not None:
        name = f" {as_text(run.teacher.name)}" if run.teacher.name else ""
        rows.insert(0, row(f"teacher{name}", run.teacher))
    known = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    if len(known) == 1:
        return ""
    table = as_table([header[i] for i in known], [[row[i] for i in known] for row in rows])
    notes = []
    if run.record.scores:
        notes.append(f"Measured on {_examples(run, 'validation')}, in percent.")
    if run.record.perplexity is not None:
        notes.append("The pseudo-perplexity is no percentage; the smaller, the better.")
    machine = run.record.environment.get("machine")
    if run.record.ms_per_question is not None and machine is not None:
        notes.append(f"Milliseconds at batch size 1 on {as_text(machine)}.")
    return "## Results\n\n" + table + ("\n\n" + " ".join(notes) if notes else "")


def _examples(run: RunFacts, split: str) -> str:
    """The examples of a split, in words."""
    data = run.data_set(split)
    count = data.examples if data is not None else None
    if count is None and split == "validation":
        count = run.record.examples
    words = f"{count:,} {run.page.unit}" if count is not None else run.page.unit
    if data is not None and data.unanswerable:
        words += f" ({data.unanswerable:,} of them unanswerable)"
    if data is None:
        return words
    name = as_text(data.name)
    known = run.known_data(split)
    if known is not None and data.name != known.hub_id:
        name += f" ({known.name})"
    part = (data.model_extra or {}).get("config")
    if part is not None:
        name += f" ({as_text(part)})"
    if split == "validation" and run.is_held_out:
        return f"{words} of {name} that were held out of the training"
    if not run.is_subset(split):
        return f"{words} of {name}"
    seed = run.record.arguments.get("data_subset_seed")
    drawn = f", drawn with seed {as_text(seed)}" if seed is not None else ""  # else the first ones
    return f"a subset of {words} of {name}{drawn}"


def _use(run: RunFacts) -> str:
    name = run.repo_id or run.name
    if run.page.use is not None:
        return "## Use\n\n" + run.page.use(name, run.record)
    if run.architecture is None:
        return ""
    quoted = json.dumps(name)
    return "## Use\n\n" + fence(
        f"from transformers import AutoTokenizer, {run.architecture}\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({quoted})\n"
        f"model = {run.architecture}.from_pretrained({quoted})",
        "python",
    )


def _objective(run: RunFacts) -> str:
    if not run.is_itrd:
        return ""
    record, parts = run.record, ["## Objective"]
    rows = [[f"`{as_code(name)}`", as_text(value)] for name, value in record.objective.items()]
    if rows:
        kd = "T² KL(teacher ‖ student)" if run.page.kd is None else run.page.kd(record)
        parts.append(
            f"`w_task` · task loss + `w_kd` · {kd} + `beta_corr` · correlation loss + `beta_mi` · "
            "mutual information loss, the last two over the layer pairs:"
        )
        parts.append(as_table(["argument", "value"], rows))
    parts += _schedule(run)
    if record.more_teachers:
        names = ", ".join(as_text(other.name or "another") for other in record.more_teachers)
        parts.append(f"KD learns from the mean prediction of the teacher and of {names}.")
    peers = record.arguments.get("peer_losses")
    if isinstance(peers, Mapping) and peers:
        parts.append("Losses of other papers beside them, by their classes:")
        rows = [[f"`{as_code(name)}`", as_text(weight)] for name, weight in peers.items()]
        parts.append(as_table(["loss", "weight"], rows))
    if record.layer_pairs:
        split = [pair.split(":") for pair in record.layer_pairs]
        rows = [[as_text(student), as_text(teacher)] for student, teacher in split]
        parts.append("Which layer learns from which (0: the embeddings):")
        parts.append(as_table(["student layer", "teacher layer"], rows))
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _schedule(run: RunFacts) -> list[str]:
    """Sentences about weights that change during the training."""
    parts = []
    warm_start, fade = run.number("warm_start_ratio"), run.number("fade_ratio")
    if warm_start:
        parts.append(f"In the first {warm_start:.0%} of the steps the layer pairs alone count.")
    if fade:
        parts.append(
            f"Over the last {fade:.0%} of the steps the weights of the layer pairs fall to 0."
        )
    return parts


def _data(run: RunFacts) -> str:
    lines = []
    for split, verb in (
        ("train", "Trained"),
        ("unlabelled", "Taught by the teacher alone, no answers read,"),
        ("threshold", "The threshold of no answer was found"),
        ("validation", "Evaluated"),
    ):
        data = run.data_set(split)
        if data is None:
            continue
        line = f"- {verb} on {_examples(run, split)}"
        if data.sha256 is not None:
            line += f"; sha256 of the file: `{as_code(data.sha256)}`"
        if data.revision is not None:
            line += f"; revision `{as_code(data.revision)}`"
        lines.append(line + ".")
    return "## Data\n\n" + "\n".join(lines) if lines else ""


def _command(run: RunFacts) -> str:
    record, parts = run.record, []
    if record.command is not None:
        parts.append(fence(record.command, "bash"))
    if record.config is not None:
        text = record.config.text.strip("\n")
        parts += [f"{as_text(record.config.name)}:", fence(text, "yaml")]
    elif record.arguments:
        text = json.dumps(record.arguments, indent=2, sort_keys=True)
        parts += ["Arguments that are not their defaults:", fence(text, "json")]
    if record.quantised is not None and record.quantised.command is not None:
        parts += ["The weights were quantised by", fence(record.quantised.command, "bash")]
    return "\n\n".join(["## Command", *parts]) if parts else ""


def _environment(run: RunFacts) -> str:
    record, lines = run.record, []
    if run.seed is not None:
        lines.append(f"- seed: {as_text(run.seed)}")
    if record.steps is not None:
        lines.append(f"- optimizer steps: {record.steps:,}")
    if record.train_seconds is not None and record.knows_the_whole:
        lines.append(f"- training: {record.train_seconds:,.0f} s")
    lines += [
        f"- {as_text(name)}: {as_text(version)}" for name, version in record.environment.items()
    ]
    return "## Versions and seed\n\n" + "\n".join(lines) if lines else ""


def _limits(run: RunFacts) -> str:
    limits = list(run.page.limits)
    known = run.known_data("train")
    if known is not None and known.limits is not None:
        limits.append(known.limits)
    if limits and run.record.scores:
        limits.append(f"The figures above are of {_examples(run, 'validation')}, and of one run.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits) if limits else ""


def _citation(run: RunFacts) -> str:
    if not run.is_itrd:
        return ""
    return f"## Citation\n\nThe method is of [this paper]({PAPER}):\n\n{fence(CITATION, 'bibtex')}"
