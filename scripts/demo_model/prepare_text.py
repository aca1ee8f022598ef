#!/usr/bin/env python3
"""Turn the King James Bible into training text and train the tokenizer of the demo model.

The text comes from Debian's packages `bible-kjv` and `bible-kjv-text`: `bible -f gen1:1-rev22:21` prints one verse a line,
`Ge1:1 In the beginning ...`. Verse numbers are dropped and a chapter becomes one document:

    Genesis 1

    In the beginning God created the heaven and the earth. And the earth was ...

Every 25th chapter is held out. Written to --out:
  documents.json   {"train": [...], "heldout": [...]}
  heldout.txt      the held-out chapters as one plain text, separated by blank lines
  tokenizer.json   byte-level BPE with the `deepseek-llm` pre-tokenizer, and the control tokens last
  train.npy        int32: the token ids of the training chapters one after another; train_len.npy: the length of each
"""
import argparse, json, pathlib, re, subprocess
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BOOKS = {
    "Ge": "Genesis", "Exo": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deu": "Deuteronomy", "Josh": "Joshua", "Jdgs": "Judges",
    "Ruth": "Ruth", "1Sm": "1 Samuel", "2Sm": "2 Samuel", "1Ki": "1 Kings", "2Ki": "2 Kings", "1Chr": "1 Chronicles", "2Chr": "2 Chronicles",
    "Ezra": "Ezra", "Neh": "Nehemiah", "Est": "Esther", "Job": "Job", "Psa": "Psalm", "Prv": "Proverbs", "Eccl": "Ecclesiastes",
    "SSol": "Song of Solomon", "Isa": "Isaiah", "Jer": "Jeremiah", "Lam": "Lamentations", "Eze": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea",
    "Joel": "Joel", "Amos": "Amos", "Obad": "Obadiah", "Jonah": "Jonah", "Mic": "Micah", "Nahum": "Nahum", "Hab": "Habakkuk",
    "Zep": "Zephaniah", "Hag": "Haggai", "Zec": "Zechariah", "Mal": "Malachi", "Mat": "Matthew", "Mark": "Mark", "Luke": "Luke", "John": "John",
    "Acts": "Acts", "Rom": "Romans", "1Cor": "1 Corinthians", "2Cor": "2 Corinthians", "Gal": "Galatians", "Eph": "Ephesians",
    "Phi": "Philippians", "Col": "Colossians", "1Th": "1 Thessalonians", "2Th": "2 Thessalonians", "1Tim": "1 Timothy", "2Tim": "2 Timothy",
    "Titus": "Titus", "Phmn": "Philemon", "Heb": "Hebrews", "Jas": "James", "1Pet": "1 Peter", "2Pet": "2 Peter", "1Jn": "1 John", "2Jn": "2 John",
    "3Jn": "3 John", "Jude": "Jude", "Rev": "Revelation"}

CONTROL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]  # the last four ids, in this order

# The regex list that runtimes attach to tokenizer.ggml.pre = deepseek-llm. No merge ever contains a digit here, so it does not matter
# whether a runtime splits a number into digits or keeps it in one piece.
LETTERS = (
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376\u0377\u037B-"
    "\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5"
    "\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D"
    "\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB"
    "\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134"
    "\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B"
    "\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F"
    "\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943]+")
PRE = ["[\r\n]", LETTERS, "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+", "\\s+$", "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"]


def pre_tokenizer():
    parts = [pre_tokenizers.Split(Regex(r), "isolated") for r in PRE]
    parts += [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    return pre_tokenizers.Sequence(parts)


def train_tokenizer(texts, size):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizer()
    tok.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # all 256 bytes, so that any input can be encoded
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size - len(CONTROL), initial_alphabet=alphabet, min_frequency=2, show_progress=False))
    tok.add_special_tokens(CONTROL)
    assert tok.get_vocab_size() == size, tok.get_vocab_size()
    return tok


def chapters():
    lines = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout.splitlines()
    out = {}
    for line in lines:
        book, chapter, verse, text = re.fullmatch(r"(\d?[A-Za-z]+)(\d+):(\d+) +(.*\S)\s*", line).groups()
        out.setdefault(f"{BOOKS[book]} {chapter}", []).append(" ".join(text.split()))
    assert len(lines) == 31102 and len(out) == 1189, (len(lines), len(out))
    return [f"{name}\n\n{' '.join(verses)}" for name, verses in out.items()]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--vocab", type=int, default=4096)
    o = ap.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    docs = chapters()
    held = [d for i, d in enumerate(docs) if i % 25 == 12]
    train = [d for i, d in enumerate(docs) if i % 25 != 12]
    (o.out / "documents.json").write_text(json.dumps({"train": train, "heldout": held}, indent=0))
    (o.out / "heldout.txt").write_text("\n\n".join(held) + "\n")
    tok = train_tokenizer(train, o.vocab)
    tok.save(str(o.out / "tokenizer.json"))
    ids = [tok.encode(d, add_special_tokens=False).ids for d in train]
    np.save(o.out / "train.npy", np.concatenate([np.array(i, np.int32) for i in ids]))
    np.save(o.out / "train_len.npy", np.array([len(i) for i in ids], np.int32))
    n = sum(len(d) for d in train)
    print(f"{len(train)} training chapters, {n} characters, {sum(map(len, ids))} tokens ({n / sum(map(len, ids)):.2f} characters a token); "
          f"{len(held)} held out, {sum(len(d) for d in held)} characters")


if __name__ == "__main__":
    main()
