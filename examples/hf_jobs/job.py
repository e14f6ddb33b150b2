# /// script
# requires-python = ">=3.11"
# dependencies = ["itrd_nlp @ git+https://github.com/OWNER/itrd_nlp"]
# ///
"""Any command of itrd-nlp as a job on the machines of Hugging Face.

    hf jobs uv run --flavor a10g-small --timeout 3h --secrets HF_TOKEN examples/hf_jobs/job.py \
        train-squad minilm_t3 --teacher me/my-teacher --train_file rajpurkar/squad \
        --validation_file rajpurkar/squad --output_dir student --push_to_hub true --hub_model_id me/my-student

The machine and its disk are gone when the job ends, so the student is pushed. `hf jobs logs ID` shows its log.
"""

import sys

from itrd_nlp.cli.main import main

sys.argv[0] = "itrd-nlp"
main()
