"""Train on what `pdsel select` wrote: python train_dpo.py selected/preferences Qwen/Qwen2.5-0.5B-Instruct policy"""

import sys

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

folder, model, policy = sys.argv[1:]
kept = Dataset.from_parquet(f"{folder}/train.parquet")  # prompt, chosen, rejected, aspect, pd
gpu = torch.cuda.is_available()
settings = {"beta": 0.1, "learning_rate": 1e-6, "per_device_train_batch_size": 8, "max_steps": 10}
config = DPOConfig(output_dir=policy, bf16=gpu, use_cpu=not gpu, save_strategy="no", **settings)
trainer = DPOTrainer(model, args=config, train_dataset=kept)
trainer.train()
trainer.save_model()
