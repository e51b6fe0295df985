"""What nanoGPT, Hugging Face's Trainer, PEFT and their like call the keys of a recipe: for who brings a name along.

PEER_NAMES    name -> dotted path; names that the recipe has itself, somewhere, are not in it
PEER_NOTES    dotted path -> what its value counts, where theirs counts something else
"""

from __future__ import annotations

from collections.abc import Mapping

_CALLED = {
    "name": "output_dir out_dir run_name",
    "data.sources": "datasets dataset_name dataset_path data_path train_file",
    "model.from": "model_name_or_path pretrained_model_name_or_path model_name base_model init_from",
    "model.context_length": "block_size max_length max_seq_length max_seq_len max_sequence_length model_max_length "
    "seq_len seq_length sequence_len sequence_length n_positions n_ctx cutoff_len",
    "model.num_hidden_layers": "n_layer n_layers num_layers",
    "model.num_attention_heads": "n_head n_heads num_heads",
    "model.num_key_value_heads": "n_kv_head n_kv_heads num_kv_heads",
    "model.hidden_size": "n_embd n_embed d_model dim hidden_dim embed_dim",
    "model.intermediate_size": "d_ff n_inner ffn_dim",
    "adapter.rank": "r lora_r lora_rank",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "adapter.targets": "target_modules lora_target_modules",
    "adapter.rslora": "use_rslora",
    "adapter.dora": "use_dora",
    "adapter.quantize": "load_in_4bit",
    "train.steps": "max_steps max_iters num_steps num_iterations iterations total_steps train_steps",
    "train.epochs": "num_train_epochs num_epochs epoch",
    "train.batch_tokens": "batch_size per_device_train_batch_size train_batch_size total_batch_size global_batch_size",
    "train.micro_batch": "micro_batch_size device_batch_size",
    "train.optimizer.name": "optim",
    "train.optimizer.lr": "learning_rate",
    "train.optimizer.beta1": "betas adam_beta1",
    "train.optimizer.beta2": "adam_beta2",
    "train.optimizer.eps": "adam_epsilon",
    "train.schedule.name": "lr_scheduler_type lr_scheduler decay_lr",
    "train.schedule.warmup_steps": "warmup_iters num_warmup_steps warmup_ratio",
    "train.grad_clip": "max_grad_norm gradient_clip_val",
    "train.activation_checkpointing": "gradient_checkpointing",
    "train.compile": "torch_compile",
    "train.precision": "bf16 fp16 dtype torch_dtype mixed_precision",
    "train.seed": "random_seed",
    "train.checkpoint.every_steps": "save_steps save_interval",
    "train.checkpoint.keep": "save_total_limit",
    "evaluate.every": "eval_interval eval_steps eval_every",
}
PEER_NOTES: Mapping[str, str] = {
    "train.batch_tokens": "it counts tokens: rows times model.context_length",
    "adapter.quantize": "it takes `nf4`",
    "warmup_ratio": "it counts steps; left out, it is a tenth of the run, at most 100",
    "train.precision": "it takes `bf16`, `fp16`, `fp32` or `auto`",
}
PEER_NAMES: Mapping[str, str] = {name: path for path, names in _CALLED.items() for name in names.split()}
