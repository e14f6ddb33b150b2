"""The pages of the documentation agree with the code. `test_docs_site.py` builds the site of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from itrd_nlp import ITRDTrainingArguments
from itrd_nlp.errors import UserError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "itrd_nlp"


class _Loader(yaml.SafeLoader):
    """mkdocs.yml names a function by a tag, which says nothing about the pages."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages(value)


def test_every_page_is_in_the_navigation_once() -> None:
    """A new page needs one line below `nav` in mkdocs.yml."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    named = list(pages(config["nav"]))
    assert len(named) == len(set(named))
    written = {str(p.relative_to(DOCS)) for p in [*DOCS.glob("*.md"), *DOCS.glob("api/*.md")]}
    assert written <= set(named)
    for path in sorted((ROOT / "examples").glob("*.py")):
        assert f"examples/{path.stem}.md" in named, f"{path.name} is missing below nav"


# ---- troubleshooting ----

ROW = re.compile(r"^\| (?!the sentence|---)(.+?) \| .+ \|$", re.MULTILINE)
# Modules whose bad input a user of the commands or of the trainer meets sooner or later.
MET = (
    *("cli/configs", "cli/jobs", "cli/local_paths", "cli/parser"),
    *("training/arguments", "training/checkpoints", "training/identity", "training/output_dir"),
    *("training/ranges", "training/resuming", "training/secrets", "training/output_paths"),
    *("training/trainer", "training/yaml_files", "files"),
    *("models/adaptor", "models/anatomy", "models/encode", "models/fast_attention"),
    *("models/lengths", "models/loading", "models/onnx_export", "models/onnx_model"),
    *("models/peft_adapters", "models/students", "models/tokenizing"),
    *("distillation/arguments", "distillation/compatibility", "distillation/layer_map"),
    *("distillation/model", "distillation/preparing", "distillation/samples"),
    *("distillation/teacher", "losses/peers/base"),
    *(
        "tasks/lines",
        "tasks/jobs/run_folder",
        "tasks/lengths",
        "tasks/demo",
        "tasks/jobs/runs",
        "tasks/question_answering/read",
    ),
    *("tasks/question_answering/data", "tasks/question_answering/features"),
    *("tasks/question_answering/task", "tasks/classification/data"),
    *("tasks/classification/features", "tasks/classification/analysis"),
    *("publish/hub", "publish/hub_files", "publish/report/data"),
    *("compare/plan", "compare/runner", "compare/arguments"),
)


def text_of(node: ast.AST) -> str:
    """The text of a string or an f-string, with … where it has values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(v) if isinstance(v, ast.Constant) else "…" for v in node.values)
    return "…"


def sentences() -> dict[str, list[str]]:
    """Module to every text in it that could be a sentence about bad input, or a part of one."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Constant | ast.JoinedStr))
        found[name] = [text for text in map(text_of, nodes) if len(text) > 12]
    return found


def is_of(shown: str, text: str) -> bool:
    """Whether a sentence of the page is a piece of one of the code, value by value."""
    shown = re.sub(r"\\(.)", r"\1", shown)  # a pipe is escaped in a table
    parts = shown.split("…")
    if not all(part in text for part in parts):
        return False
    return re.search(".*?".join(map(re.escape, parts)), text) is not None


def test_every_sentence_of_troubleshooting_is_one_of_the_code() -> None:
    shown = ROW.findall((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    assert len(shown) > 60
    texts = sentences()
    where = {
        row: {name for name, own in texts.items() for t in own if is_of(row, t)} for row in shown
    }
    assert [row for row, names in where.items() if not names] == []
    met = set().union(*where.values())
    assert [name for name in MET if name not in met] == []


def test_a_sentence_that_the_code_does_not_have_is_found() -> None:
    assert is_of("output_dir … is a file", "output_dir … is a file, but must be a folder.")
    assert not is_of("output_dir … is a pipe", "output_dir … is a file, but must be a folder.")


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_names_no_file_of_examples_that_is_not_there(path: Path) -> None:
    named = re.findall(r"\bexamples/[\w./]+\.(?:py|ipynb|sbatch)", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


# ---- code before and after ----


def code(page: str, name: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_config: Any) -> dict[str, Any]:
    """The names that the pages take for granted, for tiny models of random weights."""
    import torch
    from datasets import Dataset
    from transformers import BertForSequenceClassification, BertTokenizerFast
    from transformers import DataCollatorWithPadding as Collator

    monkeypatch.chdir(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    torch.manual_seed(0)
    config = make_config(4, vocab_size=len(words))
    model = BertForSequenceClassification(config)
    student = BertForSequenceClassification(make_config(2, vocab_size=len(words)))
    rows = tokenizer(["a good film", "a bad film"] * 8)
    data = Dataset.from_dict({**rows, "labels": [1, 0] * 8})
    collator = Collator(tokenizer)
    return {
        "model": model,
        "teacher": model,
        "student": student,
        "tokenizer": tokenizer,
        "train_dataset": data,
        "eval_dataset": data,
        "collator": collator,
        "compute_metrics": lambda outputs: {"rows": len(outputs.predictions)},
        "optimizer": torch.optim.AdamW(student.parameters(), 1e-3),
        "loader": torch.utils.data.DataLoader(
            data.to_list(), 16, collate_fn=lambda rows: dict(collator(rows))
        ),
    }


def test_the_plain_trainer_and_the_one_that_distils_take_the_same_arguments(
    scope: dict[str, Any], tmp_path: Path
) -> None:
    exec(code("from_trainer.md", "trainer before"), scope)
    assert scope["trainer"].evaluate()["eval_rows"] == 16
    exec(code("from_trainer.md", "trainer after"), scope)
    assert scope["trainer"].evaluate()["eval_rows"] == 16
    assert scope["student"].config.num_hidden_layers == 3
    assert (tmp_path / "my-student" / "model.safetensors").is_file()


REFUSED = {
    **dict.fromkeys(("do_train", "do_predict", "use_liger_kernel", "enable_jit_checkpoint"), True),
    **{"average_tokens_across_devices": False, "label_smoothing_factor": 0.1},
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_of_a_plain_trainer_that_is_refused_is_on_the_page(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=name):
        ITRDTrainingArguments(str(tmp_path), report_to="none", **{name: REFUSED[name]})
    assert f"`{name}" in (DOCS / "from_trainer.md").read_text()


def test_textbrewer_and_the_trainer_train_the_same_student(scope: dict[str, Any]) -> None:
    """One step of SGD with the rate 1 on all rows takes away the gradient, in whatever order the rows come."""
    pytest.importorskip("textbrewer")
    import torch

    exec(code("from_textbrewer.md", "textbrewer before").rpartition("with distiller")[0], scope)
    student = scope["student"]
    total, _ = scope["distiller"].train_on_batch(next(iter(scope["loader"])), {})
    total.backward()
    theirs = {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    before = {name: p.detach().clone() for name, p in student.named_parameters()}

    one_step = (
        "max_steps=1, optim='sgd', learning_rate=1.0, lr_scheduler_type='constant', max_grad_norm=0, "
        "per_device_train_batch_size=16, report_to='none', save_strategy='no',"
    )
    after = code("from_textbrewer.md", "textbrewer after")
    assert "num_train_epochs=1," in after
    exec(after.replace("num_train_epochs=1,", one_step), scope)
    assert len(theirs) > 30
    for name, parameter in student.named_parameters():
        if name in theirs:
            moved = before[name] - parameter.detach()
            assert torch.allclose(moved, theirs[name], rtol=1e-3, atol=1e-5), name


def test_the_matches_of_the_page_are_those_that_textbrewer_takes(scope: dict[str, Any]) -> None:
    pytest.importorskip("textbrewer")
    exec(code("from_textbrewer.md", "textbrewer before").rpartition("with distiller")[0], scope)
    exec(code("from_textbrewer.md", "textbrewer matches"), scope)
    assert [m.layer_T for m in scope["config"].intermediate_matches[::2]] == [2, 4]
