"""Writes a tiny folder of each pretrained family by transformers, with what it gives for texts.

    python write_hub_folders.py OUT
    python write_hub_folders.py OUT FOLDER

OUT/<family>/ holds the model's folder, and next to its files ``reference.npz``: the ids of the
texts of ``texts.json`` (by the slow and the fast tokeniser) and all hidden states of them. With a
FOLDER, OUT holds the two files of the model there. Needs transformers, torch, sentencepiece,
tokenizers, and protobuf, which nothing else here does.
"""

import json
import sys
from pathlib import Path

import numpy as np

WORDS = "the quick brown fox jumps over lazy dog and cat runs away from small houses in winter"
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    "   ",
    "Crème Brûlée, ÀÉÎÕÜ naïve ﬁancée Straße ΟΔΥΣΣΕΥΣ İstanbul",
    "我们喜欢machine learning 日本語テキスト 한국어",
    "emoji 😀👩‍👩‍👧 ☕️ done",
    "tabs\tand\nnew\r\nlines  and   blanks ",
    "control chars \x07 zero\u200bwidth \ufeffbom \ufffd soft\u00adhyphen \u2028 \x0b x",
    "it's they'll I'm we've 'quoted' don't 3.14 1,000,000 $5 a_b c-d (e) [f] {g} @h #i %j^k",
    "``old'' quotes -- and … dashes—here «guillemets» ¿qué?",
    "x" * 150 + " " + "é" * 90 + " antidisestablishmentarianism",
    "word " * 60,
    "\u3000full width \uff21\uff22\uff23 \uff11\uff12\uff13\u3000blank\u00a0nbsp",
    "مرحبا بالعالم שלום हिन्दी ไทย",
    "UPPER lower MiXeD",
    "\n\n  \n a  b   c\t\td \n",
    " leading and trailing ",
]
LENGTH = 40


def corpus():
    rng = np.random.default_rng(0)
    words = [*WORDS.split(), "Crème", "it's", "learning", "machine", "1,000", "我们", "喜欢", "été"]
    words += ["UPPER", "MiXeD", "naïve", "done", "(e)", "dashes", "don't"]
    lines = [" ".join(rng.choice(words, 9)) for _ in range(400)]
    return [*lines, *(text for text in TEXTS if text.strip())] * 2


def word_pieces(folder, **options):
    letters = sorted({c for text in corpus() for c in text.lower() if c.isalnum()})
    pieces = ["[PAD]", *(f"[unused{i}]" for i in range(5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [*letters, *("##" + c for c in letters), *"!,.'$()[]{}@#%^_-:;?/\"`…—«»¿"]
    pieces += [*WORDS.split(), "##s", "##ing", "learn", "creme", "Crème", "The", "##umps"]
    lines = list(dict.fromkeys(pieces))
    (folder / "vocab.txt").write_text("".join(f"{p}\n" for p in lines), encoding="utf-8")
    return len(lines)


def byte_pairs(folder):
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(corpus(), vocab_size=600, special_tokens=special)
    trained.save_model(str(folder))
    return trained.get_vocab_size()


def sentence_pieces(path, **options):
    import sentencepiece

    source = path.parent / "corpus.txt"
    source.write_text("\n".join(corpus()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(source), model_prefix=str(path.with_suffix("")), vocab_size=260,
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    source.unlink()
    made = path.with_suffix(".model")
    made.rename(path)
    path.with_suffix(".vocab").unlink(missing_ok=True)
    return sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size()


def _bert(t, folder):
    size = word_pieces(folder)
    config = t.BertConfig(vocab_size=size + 3, layer_norm_eps=1e-6, **COMMON)
    return t.BertModel(config), t.BertTokenizer(str(folder / "vocab.txt"))


def _bert_cased(t, folder):
    size = word_pieces(folder)
    config = t.BertConfig(vocab_size=size, hidden_act="gelu_new", **COMMON)
    tokens = t.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)
    return t.BertForSequenceClassification(config), tokens


def _distilbert(t, folder):
    size = word_pieces(folder)
    config = t.DistilBertConfig(
        vocab_size=size, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=48
    )
    return t.DistilBertModel(config), t.DistilBertTokenizer(str(folder / "vocab.txt"))


def _electra(t, folder):
    size = word_pieces(folder)
    config = t.ElectraConfig(vocab_size=size, embedding_size=16, **COMMON)
    return t.ElectraModel(config), t.ElectraTokenizer(str(folder / "vocab.txt"))


def _roberta(t, folder):
    size = byte_pairs(folder)
    config = t.RobertaConfig(
        vocab_size=size, layer_norm_eps=1e-5, type_vocab_size=1,
        **COMMON | {"max_position_embeddings": 50},
    )  # fmt: skip
    tokens = t.RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return t.RobertaForMaskedLM(config), tokens


def _xlm_roberta(t, folder):
    path = folder / "sentencepiece.bpe.model"
    size = sentence_pieces(path, unk_id=0, bos_id=1, eos_id=2) + 2
    config = t.XLMRobertaConfig(
        vocab_size=size, layer_norm_eps=1e-5, **COMMON | {"max_position_embeddings": 50}
    )
    return t.XLMRobertaModel(config), t.XLMRobertaTokenizer(str(path))


def _albert(t, folder):
    path = folder / "spiece.model"
    size = sentence_pieces(
        path, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"]
    )
    config = t.AlbertConfig(
        vocab_size=size, embedding_size=16, num_hidden_groups=1, hidden_act="gelu_new", **COMMON
    )
    return t.AlbertModel(config), t.AlbertTokenizer(str(path))


def _deberta(t, folder):
    path = folder / "spm.model"
    size = sentence_pieces(
        path, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]",
        eos_piece="[SEP]", unk_piece="[UNK]",
    ) + 1  # fmt: skip
    config = t.DebertaV2Config(
        vocab_size=size + 4, relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
        max_relative_positions=-1, type_vocab_size=0, embedding_size=16, **COMMON,
    )  # fmt: skip
    return t.DebertaV2Model(config), t.DebertaV2Tokenizer(str(path))


def _xlnet(t, folder):
    path = folder / "spiece.model"
    control = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"]
    size = sentence_pieces(path, unk_id=0, bos_id=1, eos_id=2, control_symbols=control)
    config = t.XLNetConfig(
        vocab_size=size, d_model=32, n_layer=3, n_head=4, d_inner=48, initializer_range=0.2
    )
    return t.XLNetModel(config), t.XLNetTokenizer(str(path))


COMMON = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 48, "initializer_range": 0.2,
}  # fmt: skip
FAMILIES = {
    "bert": _bert, "bert-cased": _bert_cased, "distilbert": _distilbert, "electra": _electra,
    "roberta": _roberta, "xlm-roberta": _xlm_roberta, "albert": _albert, "deberta-v2": _deberta,
    "xlnet": _xlnet,
}  # fmt: skip


def write_reference(folder, model, slow, fast):
    """Ids of the texts, and hidden states of the fast tokeniser's ids."""
    import torch

    arrays = {}
    for kind, tokens in (("slow", slow), ("fast", fast)):
        rows = [tokens.encode(text, truncation=True, max_length=LENGTH) for text in TEXTS]
        arrays[f"{kind}_lengths"] = np.array([len(row) for row in rows])
        arrays[f"{kind}_ids"] = np.concatenate(rows)
    padding = fast.pad_token_id
    width = max(map(len, rows))
    ids = np.array([row + [padding] * (width - len(row)) for row in rows])
    mask = torch.tensor(ids != padding)
    body = model.base_model
    with torch.no_grad():
        found = body(
            input_ids=torch.tensor(ids), attention_mask=mask.long(), output_hidden_states=True
        )
    arrays["ids"] = ids
    for number, state in enumerate(found.hidden_states):
        arrays[f"state_{number}"] = state.numpy()
    np.savez(folder / "reference.npz", **arrays)


def main(out):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    for number, (name, make) in enumerate(FAMILIES.items()):
        torch.manual_seed(number)
        folder = Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        model, slow = make(transformers, folder)
        with torch.no_grad():  # so that no bias is 0 and no scale 1
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        model.eval()
        model.save_pretrained(folder, safe_serialization=True)
        slow.save_pretrained(folder)
        fast = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True)
        only = Path(out) / f"{name}-json"
        fast.save_pretrained(only)
        write_reference(folder, model, slow, fast)
    (Path(out) / "texts.json").write_text(json.dumps(TEXTS))


def describe(out, folder):
    import transformers

    slow, fast = (
        transformers.AutoTokenizer.from_pretrained(folder, use_fast=fast) for fast in (False, True)
    )
    model = transformers.AutoModel.from_pretrained(folder).eval()
    write_reference(Path(out), model, slow, fast)
    (Path(out) / "texts.json").write_text(json.dumps(TEXTS))


if __name__ == "__main__":
    describe(*sys.argv[1:]) if len(sys.argv) > 2 else main(sys.argv[1])
