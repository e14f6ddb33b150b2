"""A page to try teacher and student on one's own text, side by side. Needs the extra `demo`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline
from itrd_nlp.tasks.question_answering.scoring import exact_match
from itrd_nlp.training.record import RESULTS_NAME, RunRecord

if TYPE_CHECKING:
    import gradio as gr

Segments = list[tuple[str, str | None]]
"""A context in pieces, each with the label of its highlight or None."""

LONGEST_TEXT = 10_000
"""Most characters of a question or a context. A longer one would hold the page for everybody who waits behind it."""

LABEL = "answer"
COLOUR = {LABEL: "#f59e0b"}
# Gradio breaks a highlighted text within words, puts its pieces on lines of their own, and marks black on dark.
STYLE = (
    ".textfield { display: block !important; word-break: normal !important; overflow-wrap: anywhere; } "
    ".textfield .token-container { display: inline !important; } "
    ".textfield .highlighted { color: inherit !important; }"
)
EXAMPLES = [
    [
        "Where does the Rhine end?",
        "The Rhine rises in the Swiss Alps, passes Basel, Strasbourg and Cologne, and ends after some 1,230 kilometres "
        "in the North Sea near Rotterdam.",
    ],
    [
        "Which numbers was the machine to compute?",
        "In 1843 Ada Lovelace published a translation of an article on Charles Babbage's Analytical Engine. Her notes "
        "are longer than the article; the last one lists the steps by which the machine would compute the Bernoulli "
        "numbers.",
    ],
    [
        "What does the student imitate?",
        "In knowledge distillation a small network, the student, is trained to imitate a larger one, the teacher. "
        "Besides the labels it is shown the teacher's outputs, which say how likely every answer is, and sometimes "
        "the hidden states between its layers.",
    ],
]
# The right answers to them, in their order.
ANSWERS = ["the North Sea", "the Bernoulli numbers", "a larger one"]


def build_demo(
    student: QuestionAnsweringPipeline, teacher: QuestionAnsweringPipeline | None = None
) -> gr.Blocks:
    """Build the page: a question, a context, and the answer of each model highlighted in it.

    Gradio's telemetry is switched off for the process, and the page loads nothing from other servers.

    Args:
        student: answers questions.
        teacher: answers the same questions on the left of it. Default: there is none.

    Raises:
        UserError: Gradio is not installed.

    Example:
        >>> build_demo(load_pipeline("runs/my_student")).launch()  # doctest: +SKIP
    """
    gr = _gradio()
    models = {"Teacher": teacher, "Student": student}
    pipelines = {name: qa for name, qa in models.items() if qa is not None}
    for qa in pipelines.values():
        qa(question="a", context="a")  # the first run of a model is slower than all others
    first = shown_first(next(iter(pipelines.values())))

    def answer(question: str, context: str) -> list[Any]:
        try:
            return ask(list(pipelines.values()), question, context)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    with gr.Blocks(title="Questions about your text") as demo:
        knows_none = any(qa.threshold is not None for qa in pipelines.values())
        answers = (
            "a piece of the text, or that it has none"
            if knows_none
            else "always a piece of the text"
        )
        gr.Markdown(f"# Questions about your text\nThe answer is {answers}.")
        question = gr.Textbox(first[0], label="Question", placeholder="Who, what, when, where?")
        context = gr.Textbox(
            first[1], label="Context", lines=6, max_lines=20, placeholder="Paste a text."
        )
        button = gr.Button("Answer", variant="primary")
        outputs: list[Any] = []
        with gr.Row():
            for name, qa in pipelines.items():
                with gr.Column(min_width=280):
                    layers = qa.model.config.num_hidden_layers
                    title = f"{name}, {layers} layer{'s' if layers > 1 else ''}"
                    outputs.append(
                        gr.HighlightedText(
                            label=title, color_map=COLOUR, show_inline_category=False
                        )
                    )
                    outputs.append(gr.Markdown())
        gr.Examples(EXAMPLES, [question, context])
        gr.HTML(f"<style>{STYLE}</style>", padding=False)
        gr.on([button.click, question.submit], answer, [question, context], outputs)
    return demo  # type: ignore[no-any-return]  # gradio has no types


def shown_first(qa: QuestionAnsweringPipeline) -> list[str]:
    """The question and the context that the page starts with: the first example that a model answers rightly.

    Args:
        qa: the teacher, or the student where there is no teacher. If it answers none rightly, the first example is
            taken.
    """
    for example, answer in zip(EXAMPLES, ANSWERS, strict=True):
        question, context = example
        if exact_match(qa(question=question, context=context)["answer"], answer):
            return example
    return EXAMPLES[0]


def launch(
    demo: gr.Blocks, *, host: str = "127.0.0.1", port: int | None = None, wait: bool = True
) -> str:
    """Serve a page.

    Args:
        demo: what `build_demo` returns.
        host: 0.0.0.0 lets other machines see it.
        port: default: the first one from 7860 on that is free.
        wait: until Ctrl-C.

    Returns:
        Its address.

    Raises:
        UserError: the port is taken.
    """
    try:
        _, url, _ = demo.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            footer_links=[],
            prevent_thread_lock=not wait,
            quiet=not wait,
        )
    except OSError as error:
        raise UserError(f"the page cannot be served on port {port or 7860} ({error}).") from error
    return url


def ask(
    pipelines: Sequence[QuestionAnsweringPipeline], question: str, context: str
) -> list[Segments | str]:
    """Ask each model.

    Returns:
        For each in turn the context, in segments, and a line with score and milliseconds of this one run.

    Raises:
        UserError: question or context is empty, or the one is longer than `LONGEST_TEXT`.
    """
    for name, text in (("question", question), ("context", context)):
        if len(text) > LONGEST_TEXT:
            raise UserError(
                f"The {name} has {len(text):,} characters, but this page takes {LONGEST_TEXT:,} at most; "
                "`itrd-nlp predict` reads texts of any length."
            )
    shown: list[Segments | str] = []
    for qa in pipelines:
        started = time.perf_counter()
        found = qa(question=question, context=context)
        milliseconds = 1000 * (time.perf_counter() - started)
        shown.append(highlighted(context, found["start"], found["end"]))
        said = "" if found["answer"] else "no answer, "
        shown.append(f"{said}score {found['score']:.2f}, {milliseconds:.0f} ms")
    return shown


def highlighted(context: str, start: int, end: int) -> Segments:
    """The context with the characters from start to end labelled."""
    pieces = [(context[:start], None), (context[start:end], LABEL), (context[end:], None)]
    return [(text, label) for text, label in pieces if text]


def recorded_teacher(folder: str | Path) -> str | None:
    """The teacher that a student was distilled from, as its results.json has it; None if that is no folder here.

    A model id and a folder that is gone look alike, so an id is not taken.

    Raises:
        UserError: results.json cannot be read.
    """
    record = RunRecord.read(folder)
    teacher = None if record is None else record.arguments.get("teacher")
    if teacher is not None and not isinstance(teacher, str):
        raise UserError(
            f"{Path(folder) / RESULTS_NAME}: teacher in arguments is a {type(teacher).__name__}, but must be a text."
        )
    return teacher if teacher is not None and os.path.isdir(teacher) else None


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            "the package gradio is not installed, but the page needs it; pip install itrd_nlp[demo]."
        ) from error
    return gradio
