"""Make a tiny, randomly initialised Llama and a BPE tokenizer trained on the bundled intakes: a real model of nonsense.

    python tests/live/make_tiny_model.py DIR

It takes seconds and no network. `transformers serve DIR` then speaks the OpenAI protocol.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

INTAKES = Path(__file__).parents[2] / "magnet" / "bundled" / "intakes.jsonl"
VOCABULARY = 2_000
CONTEXT_TOKENS = 32_768
# The Llama-3 layout: a header names the speaker, a token ends the message.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}<|text|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|text|>{% endif %}"
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    special = ["<unk>", "<|begin|>", "<|end|>", "<|start|>", "<|text|>"]
    trainer = BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=ByteLevel.alphabet())
    cases = [json.loads(line) for line in INTAKES.read_text("utf-8").splitlines()]
    texts = [text for case in cases for part in (case["form"], case["opening"]) for text in map(str, part.values())]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|begin|>"),
        eos_token_id=end,
        pad_token_id=end,
    )
    return LlamaForCausalLM(config)


def main(folder: Path) -> None:
    tokenizer = train_tokenizer()
    model = make_model(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sys.stdout.write(f"{folder}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
