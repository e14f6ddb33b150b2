"""`StudentTrainer`: the files of a student that trains together with its objective."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from itrd_nlp.distillation.model import DistillationModel
from itrd_nlp.errors import UserError
from itrd_nlp.models.peft_adapters import has_adapters, load_adapters
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.training.arguments import output_folder
from itrd_nlp.training.checkpoints import own_names

OBJECTIVE_WEIGHTS_NAME = "objective.safetensors"


class StudentTrainer(HubTrainer):
    """A trainer of a `DistillationModel`, which saves and publishes the student alone.

    A checkpoint holds the weights of the objective in a file of their own.
    """

    @property
    def published_model(self) -> PreTrainedModel:
        """See `HubTrainer.published_model`. It is the student."""
        return self.student

    @property
    def learner(self) -> PreTrainedModel:
        """See `ResumingTrainer.learner`. It is the student, because the seed decides how projections start."""
        return self.student

    @property
    def student(self) -> PreTrainedModel:
        """The student, without the projections."""
        return self._distillation_model().student

    def _distillation_model(self) -> DistillationModel:
        """Return student and objective, without the wrapper of DDP or FSDP."""
        model: DistillationModel = self.accelerator.unwrap_model(self.model)
        return model

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            wrapped, self.model = self.model, self.student
            try:
                super()._set_signature_columns_if_needed()
            finally:
                self.model = wrapped

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write the student and its tokenizer, and nothing of the objective."""
        if not self.args.should_save:
            return
        folder = Path(output_dir) if output_dir else output_folder(self.args)
        if state_dict is not None:
            prefix = "student."
            state_dict = {
                name.removeprefix(prefix): value
                for name, value in state_dict.items()
                if name.startswith(prefix)
            }
        with own_names(self.student):
            self.student.save_pretrained(folder, state_dict=state_dict)
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_fsdp_enabled:
            return  # the base class has written the whole module, and so the objective
        objective = self._distillation_model().objective
        if self.args.should_save:
            # Not save_file: a loss of one's own may share tensors.
            safetensors.torch.save_model(objective, str(Path(output_dir) / OBJECTIVE_WEIGHTS_NAME))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(
                Path(resume_from_checkpoint), [SAFE_WEIGHTS_NAME, OBJECTIVE_WEIGHTS_NAME]
            )

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
            return
        best = self._checked_best_checkpoint()
        names = [SAFE_WEIGHTS_NAME]
        if not self.args.save_only_model:  # then a checkpoint has only what is published
            names.append(OBJECTIVE_WEIGHTS_NAME)
        self._load_weights(best, names)

    def _load_weights(self, checkpoint: Path, names: list[str]) -> None:
        model = self._distillation_model()
        modules = {SAFE_WEIGHTS_NAME: model.student, OBJECTIVE_WEIGHTS_NAME: model.objective}
        for name in names:
            if name == SAFE_WEIGHTS_NAME and has_adapters(model.student):
                load_adapters(model.student, checkpoint)
                continue
            path = checkpoint / name
            if not path.is_file():
                raise UserError(
                    f"{path} does not exist, so {checkpoint} is no complete checkpoint of this trainer "
                    f"(they are folders named {PREFIX_CHECKPOINT_DIR}-STEP)."
                )
            # The CPU reads the file, and the values are copied to the device.
            safetensors.torch.load_model(modules[name], path)
