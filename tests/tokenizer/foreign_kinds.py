"""Small tokenizers of every kind that checkpoints have, trained here, written as their folders are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = [
    "The quick brown fox jumps over the lazy dog. It's said they don't; we've 12345 reasons, and 67 more!",
    "def f(x):\n    return x ** 2  # squared\n\n\nprint(f(3))\tThe end.",
    "Größe, naïve café, Ελληνικά, русский язык, 中文字符, 日本語の文章,한국어 문장, العربية",
    "the the the of of and and to to in in is is that that it it was was for for on on are are as as with with",
] * 3

# Everything that splits engines: runs of spaces, odd line ends, marks, emoji that are several code points, controls.
HARD = [
    "",
    " ",
    "   ",
    "\n\n\n",
    " leading",
    "trailing ",
    "two  spaces   three",
    "tab\tand\r\nreturn\rhere",
    "it's WE'VE i'M don't",
    "1 22 333 4444 55555",
    "naïve e\u0301 ﬁ ² ① Å",
    "中文。日本語、한국어",
    "👩‍👩‍👧‍👦🏳️‍🌈 🤷🏽",
    "\u00a0nbsp\u2003em\u3000wide\u200bzero",
    "\x00\x01\x7f\x85\ufeff",
    "\ufffd\uffff\U0010ffff",
    "▁metaspace▁▁ Ġbyte Ċ <0x0A> ##ing",
    "a" * 300,
    "http://a.b/c?d=e&f=g#h <b>bold</b> {json: [1, 2]}",
    *TEXT[:4],
]

GPT2_SPECIALS = ["<|endoftext|>"]
LLAMA3_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = ["<|im_start|>", "<|im_end|>"]


def gpt2(folder: Path) -> Path:
    """Byte-level BPE with the pattern of GPT-2, special tokens of ChatML, thoughts as added tokens (Qwen)."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder, made.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=True)
    _train(made, trainers.BpeTrainer, GPT2_SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.add_special_tokens(CHATML)
    made.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    return _write(folder, made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llama3(folder: Path) -> Path:
    """Byte-level BPE with the pattern of Llama 3, whole pretokens that are tokens stand, bos by the post-processor."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    _train(made, trainers.BpeTrainer, [], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.add_special_tokens(LLAMA3_SPECIALS)
    _opened(made, "<|begin_of_text|>")
    return _write(folder, made, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def llama2(folder: Path) -> Path:
    """Sentencepiece-like BPE: a prefix space by the normalizer, byte fallback, no pretokens."""
    made = _byte_fallback()
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _opened(made, "<s>")
    return _write(folder, made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def mistral(folder: Path) -> Path:
    """The same with Metaspace, a prefix space only where the text begins."""
    made = _byte_fallback(["[INST]", "[/INST]"])
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _opened(made, "<s>")
    return _write(folder, made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def gemma(folder: Path) -> Path:
    """The same without a prefix space, and white space as added tokens."""
    made = _byte_fallback(["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>"])
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_tokens([AddedToken(name, normalized=False) for name in ("\n\n", "▁▁", "▁▁▁")])
    _opened(made, "<bos>")
    return _write(folder, made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def unigram(folder: Path) -> Path:
    """T5 and XLM-R: pieces with scores, control tokens among them."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    _train(made, trainers.UnigramTrainer, ["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return _write(folder, made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def wordpiece(folder: Path) -> Path:
    """BERT, uncased; nothing in its files says which token does what."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    _train(made, trainers.WordPieceTrainer, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    ids = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return _write(folder, made)


KINDS: dict[str, Callable[[Path], Path]] = {
    "gpt2": gpt2,
    "llama3": llama3,
    "llama2": llama2,
    "mistral": mistral,
    "gemma": gemma,
    "unigram": unigram,
    "wordpiece": wordpiece,
}


def _train(made: Tokenizer, trainer: Any, specials: list[str], **options: Any) -> None:
    made.train_from_iterator(TEXT, trainer(vocab_size=500, special_tokens=specials, show_progress=False, **options))


def _byte_fallback(further: list[str] | None = None) -> Tokenizer:
    """A BPE over characters with ▁ for spaces, whose unknown characters are bytes."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    _train(learned, trainers.BpeTrainer, [])
    model = json.loads(learned.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    rare = set("中字한λ²")  # known to the text, not to the vocabulary
    kept = [token for token in sorted(model["vocab"], key=model["vocab"].get) if not rare & set(token)]
    vocab = {token: place for place, token in enumerate([*first, *kept])}
    pairs = [tuple(pair) for pair in model["merges"] if not rare & set("".join(pair))]
    made = Tokenizer(models.BPE(vocab, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(name, normalized=False) for name in first[:3]])
    made.add_special_tokens(further or [])
    return made


def _opened(made: Tokenizer, bos: str) -> None:
    made.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )


def _write(folder: Path, made: Tokenizer, **named: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
