"""A trainer that pushes its model to the Hub, and nothing else of its output folder."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import HubStrategy, TrainOutput
from transformers.utils.hub import PushInProgress

from itrd_nlp.errors import UserError, first_line
from itrd_nlp.files import write_text
from itrd_nlp.publish.hub import PushReport, check_revision, hub_api, open_repo, push_files
from itrd_nlp.publish.hub_files import HubFile, card_text, model_files
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.publish.privacy import keep_tokens_out
from itrd_nlp.training.arguments import output_folder
from itrd_nlp.training.record import RESULTS_NAME, VERSION, RunRecord
from itrd_nlp.training.results import environment, size
from itrd_nlp.training.trainer import BaseTrainer

logger = logging.getLogger(__name__)


class HubTrainer(BaseTrainer):
    """`BaseTrainer` whose ``--push_to_hub`` pushes configuration, weights, tokenizer, card and results.json alone.

    The trainer of transformers pushes the whole output folder: training arguments with their paths, logs, all else.

    Args:
        *args: as for ``transformers.Trainer``.
        page: how the task is shown in the card. Default: by the class of the model's head.
        **kwargs: as for ``transformers.Trainer``.
    """

    # transformers assigns None to both first, so that a type checker believes that they stay so.
    hub_model_id: Any
    push_in_progress: Any
    _earlier: tuple[int, int] | None = None

    def __init__(self, *args: Any, page: TaskPage | None = None, **kwargs: Any) -> None:
        self.page = page
        super().__init__(*args, **kwargs)
        keep_tokens_out(self.args)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """See `BaseTrainer.train`. A results.json that is there before it is about another model."""
        self._earlier = _written(output_folder(self.args) / RESULTS_NAME)
        return super().train(*args, **kwargs)

    @property
    def published_model(self) -> PreTrainedModel:
        """The model that `save_model` writes."""
        model: PreTrainedModel = self.accelerator.unwrap_model(self.model)
        return model

    def known_record(self) -> RunRecord:
        """The record from which the card is made before the run has left a results.json."""
        model = self.published_model
        return RunRecord(
            version=VERSION,
            layers=getattr(model.config, "num_hidden_layers", None),  # a ResNet has stages
            **size(model),
            steps=self.state.global_step,
            arguments={"seed": self.args.seed},
            precision=self.precision,
            environment=environment(),
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository ``args.hub_model_id`` (default: of the name of ``output_dir``) where there is none.

        Raises:
            UserError: ``hub_strategy`` is one that pushes checkpoints; ``hub_revision`` is no name of a branch; or see
                `itrd_nlp.publish.hub.open_repo`.
        """
        strategy = HubStrategy(self.args.hub_strategy)
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise UserError(
                f"hub_strategy is {strategy.value!r}, but must be every_save or end: the Hub gets the model and no "
                "checkpoints."
            )
        check_revision(self.args.hub_revision, "hub_revision")
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or output_folder(self.args).absolute().name
        private = self.args.hub_private_repo if private is None else private
        self.hub_model_id = open_repo(self._hub(token), name, private=private)
        self.push_in_progress = None

    def create_model_card(self, license: str | None = None) -> None:  # type: ignore[override]
        """Write README.md into ``output_dir``, unless there is one that somebody edited.

        The other arguments of transformers are not taken, because the record says all that they could. It is made from
        results.json of this training; before there is one, from `known_record`.

        Args:
            license: an identifier of the Hub such as ``apache-2.0``.
        """
        if self.is_world_process_zero():
            folder = output_folder(self.args)
            text = card_text(
                folder, self._record(), page=self.page, repo_id=self.hub_model_id, license=license
            )
            write_text(folder / CARD_NAME, text)

    def push_to_hub(  # type: ignore[override]  # it returns what really was pushed
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        license: str | None = None,
    ) -> PushReport | Future[PushReport] | None:
        """Save the model and push it.

        Args:
            commit_message: of the commit.
            blocking: wait for the upload.
            token: default: ``args.hub_token``, else that of ``hf auth login``.
            revision: branch, created where it is missing; default: ``args.hub_revision``, else ``main``.
            private: create the repository so; default: ``args.hub_private_repo``. A public one is refused.
            license: for the card, an identifier of the Hub.

        Returns:
            The outcome of the push, or a future of it where ``blocking`` is false. None on all but the first process.

        Raises:
            UserError: the Hub refused, or could not be reached.
        """
        check_revision(revision)
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self._finish_current_push()  # it reads the files that are written next
        if self.hub_model_id is None or private:
            self.init_hf_repo(token, private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        api = self._hub(token)  # first, so that the token is kept out of the files
        self.create_model_card(license)
        files = self._files(str(output_folder(self.args)), license)
        push = partial(
            push_files,
            api,
            self.hub_model_id,
            files,
            revision=revision or self.args.hub_revision,
            commit_message=commit_message or "End of training",
        )
        return push() if blocking else api.run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the model of a checkpoint in the background. If that fails the training goes on, with a warning."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self.push_in_progress is not None and not self.push_in_progress.is_done():
            if not self.args.hub_always_push:
                return
            self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        step = self.state.global_step
        try:
            # The checkpoint is renamed, and may be rotated away, while the upload goes on.
            for file in self._files(checkpoint_folder):
                path = Path(checkpoint_folder) / file.name
                if path.is_file():
                    target = output_folder(self.args) / file.name
                    target.parent.mkdir(exist_ok=True)
                    shutil.copy(path, target)
            self.create_model_card()
            files = self._files(str(output_folder(self.args)))
        except Exception as error:  # no push is worth the training
            logger.warning("The model of step %d is not pushed: %s", step, first_line(error))
            return
        api = self._hub()
        job = api.run_as_future(self._push_step, api, files, step)
        jobs: Any = [job]  # it takes a list, whatever it says
        self.push_in_progress = PushInProgress(jobs)

    def _push_step(self, api: HfApi, files: list[HubFile], step: int) -> None:
        try:
            push_files(
                api,
                self.hub_model_id,
                files,
                revision=self.args.hub_revision,
                commit_message=f"Training in progress, step {step}",
            )
        except Exception as error:  # it would be lost in the future, which nobody asks
            logger.warning("The model of step %d is not pushed: %s", step, first_line(error))

    def _hub(self, token: str | None = None) -> HfApi:
        return hub_api(token if token is not None else self.args.hub_token)

    def _files(self, folder: str, license: str | None = None) -> list[HubFile]:
        tokenizer = self.processing_class
        return model_files(
            folder,
            self._record(),
            tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None,
            page=self.page,
            repo_id=self.hub_model_id,
            license=license,
        )

    def _record(self) -> RunRecord:
        # A results.json that an earlier training has left in the folder is not about this model.
        folder = output_folder(self.args)
        if _written(folder / RESULTS_NAME) == self._earlier:
            return self.known_record()
        recorded = RunRecord.read(folder)
        if recorded is not None and recorded.steps == self.state.global_step:
            return recorded
        return self.known_record()


def _written(path: Path) -> tuple[int, int] | None:
    """Return a value that changes when a file is written again. None where there is no file."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
