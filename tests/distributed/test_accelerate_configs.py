"""The files of configs/accelerate, read by accelerate's own loader and launcher."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

FOLDER = Path(__file__).parents[2] / "configs" / "accelerate"
# File: type, processes, precision, and whether it is for CPUs.
FILES = {
    "cpu": ("NO", 1, "no", True),
    "cpu_2proc": ("MULTI_GPU", 2, "no", True),
    "ddp_bf16": ("MULTI_GPU", 8, "bf16", False),
    "ddp_fp16": ("MULTI_GPU", 8, "fp16", False),
    "fsdp2": ("FSDP", 8, "bf16", False),
    "deepspeed_zero2": ("DEEPSPEED", 8, "bf16", False),
}


def launcher_arguments(name: str):
    config = str(FOLDER / f"{name}.yaml")
    parsed = launch_command_parser().parse_args(["--config_file", config, "script.py"])
    return _validate_launch_command(parsed)[0]


def test_these_are_all_files():
    assert {path.stem for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    found = (config.distributed_type.value, config.num_processes, config.mixed_precision)
    assert (*found, config.use_cpu) == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_the_launcher_knows_every_option(name):
    """It would take an option with a typing error without a word."""
    known = vars(launch_command_parser().parse_args(["script.py"]))
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    for option in (*config.fsdp_config, *config.deepspeed_config):
        assert option in known, option
    arguments = launcher_arguments(name)
    assert arguments.num_processes == FILES[name][1]
    assert arguments.mixed_precision == FILES[name][2]
    assert arguments.multi_gpu == (FILES[name][0] == "MULTI_GPU")
    assert arguments.use_fsdp == (name == "fsdp2")
    assert arguments.use_deepspeed == (name == "deepspeed_zero2")


def test_two_cpu_processes_see_no_gpu():
    assert prepare_multi_gpu_env(launcher_arguments("cpu_2proc"))["CUDA_VISIBLE_DEVICES"] == "-1,-1"


def test_fsdp2_shards_the_layers_of_any_model_and_saves_whole_students():
    environment = prepare_multi_gpu_env(launcher_arguments("fsdp2"))
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    ours = {k: v for k, v in environment.items() if k not in os.environ}
    with patch_environment(**ours):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert plugin.transformer_cls_names_to_wrap is None  # the trainer names them
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
