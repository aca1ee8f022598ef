#!/usr/bin/env python3
"""Compares the pre-tokenizers with the `regex` module on random texts of many scripts.

usage: check_pre_tokenizers.py PRETOKENIZE_DUMP [--texts N] [--seed S]

The patterns below are those of the models' own tokenizer files, written for Rust's engines; the
`regex` module understands them as they are (Kimi's class intersections in its V1 mode). Both sides
classify characters by Unicode, each by its own version; so texts hold only assigned characters
whose class is the same in this Python's tables and in the module's. Exits 77 where that is not
installed.
"""

import argparse
import functools
import json
import random
import subprocess
import sys
import unicodedata

try:
    import regex
except ImportError:
    print("skipped: the Python module `regex` is not installed")
    sys.exit(77)

LAST_WORDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"

# The letters with case of that format, by code point.
CASED = """
    41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386
    388-38A 38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA
    1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57
    1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB
    1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D
    212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3
    A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A
    FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF
    1E900-1E943
""".split()
CASED = "".join("-".join(f"\\U{int(end, 16):08x}" for end in part.split("-")) for part in CASED)

# Each list is applied in order, every pattern to the pieces that the one before left.
PATTERNS = {
    "deepseek-v3": [
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
        r"""|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + LAST_WORDS,
    ],
    "qwen2": [
        CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LAST_WORDS
    ],
    "llama-bpe": [
        CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LAST_WORDS
    ],
    "kimi-k2": [
        r"[\p{Han}]+"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LAST_WORDS
    ],
    # \p{N} alone first: that tokenizer isolates digits.
    "starcoder": [r"\p{N}", GPT2],
    "gpt-2": [GPT2],
    "deepseek-llm": [
        r"[\r\n]",
        rf"\s?[{CASED}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        r"[一-龥ࠀ-一가-퟿]+",
        r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
}

# First and last code points of what texts are drawn from, a script or block each. They leave out
# what came after Unicode 14, which older PCRE2 libraries do not know.
RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x41, 0x5A), (0x61, 0x7A), (0x30, 0x39),
    (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
    (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF),
    (0xB80, 0xBFF), (0xE00, 0xE7F), (0xE80, 0xEC6), (0xF00, 0xFFF), (0x1000, 0x109F),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1780, 0x17FF),
    (0x1800, 0x18AF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20C0),
    (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x23FF), (0x2460, 0x27BF), (0x2C00, 0x2DFF),
    (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x31E3), (0x3200, 0x33FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x4E00, 0x9FFF), (0xA640, 0xA7C0), (0xAC00, 0xD7FF),
    (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFBC2), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF),
    (0x10400, 0x1044F), (0x104B0, 0x104FF), (0x11000, 0x1107F), (0x16FE0, 0x16FF1),
    (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F100, 0x1F1FF), (0x1F300, 0x1F6D2),
    (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0xE0100, 0xE01EF),
]
SPACES = " " * 12 + "\t\t\n\n\n\n\r\r" + (
    "\x0b\x0c\x85\xa0\u1680\u180e\u2003\u2009\u2028\u2029\u202f\u3000\u200b\ufeff"
)
PHRASES = [
    "'s", "'S", "'t", "'re", "'RE", "'ve", "'vE", "'m", "'ll", "'Ll", "'d", "'\u017f", "it's",
    "We'Ve", "don't", "\r\n", "\n\n", " \n ", "   ", "\t\t", "...", "!?", "//", "== ", "<|im_end|>",
    "<｜User｜>", "ﷺ", "👩‍👩‍👧", "🇩🇪", "e\u0301", "x\u200d", "ǅ", "ⅷ", "½", "٣٤٥٦", "一二三", "々〆〇", "カー",
    "한국어", "हिन्दी", "ไทย", "CamelCaseWord", "snake_case",
    "1234567", "3.14159", "\x00\x01", "\x1c\x1f",
]


def pieces_of(patterns, text):
    """Each match is a piece, and so is the text between two matches."""
    pieces = [text]
    for pattern in patterns:
        cut = []
        for piece in pieces:
            end = 0
            for match in pattern.finditer(piece):
                cut += [piece[end : match.start()], match.group()]
                end = match.end()
            cut.append(piece[end:])
        pieces = [p for p in cut if p]
    return pieces


@functools.cache
def is_stable(char):
    category = unicodedata.category(char)
    # NUL ends a text on the way to the program. U+0295 changed its category, in Unicode 16.
    if char == "\0" or category in ("Cn", "Cs"):
        return False
    return regex.fullmatch(rf"\p{{{category}}}", char) is not None


def random_text(rng):
    scripts = rng.sample(RANGES, rng.randint(1, 4))
    out = []
    for _ in range(rng.randint(1, 40)):
        kind = rng.random()
        if kind < 0.15:
            out.append(rng.choice(PHRASES))
        elif kind < 0.35:
            out.append("".join(rng.choice(SPACES) for _ in range(rng.randint(1, 4))))
        else:
            low, high = rng.choice(scripts)
            out.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
    return "".join(filter(is_stable, "".join(out)))


def split_by_program(program, name, texts):
    stdin = "".join(text + "\0" for text in texts).encode()
    lines = subprocess.run([program, name], input=stdin, capture_output=True, check=True).stdout
    return [[bytes.fromhex(p).decode() for p in json.loads(line)] for line in lines.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    texts = [random_text(rng) for _ in range(args.texts)]
    n_wrong = 0
    for name, sources in PATTERNS.items():
        patterns = [regex.compile(source, regex.V1) for source in sources]
        found = split_by_program(args.program, name, texts)
        if len(found) != len(texts):
            sys.exit(f"{name}: {len(texts)} texts went in, {len(found)} came out")
        wrong = [t for t, pieces in zip(texts, found) if pieces != pieces_of(patterns, t)]
        print(f"{name}: {len(texts)} texts, {len(wrong)} differ")
        for text in wrong[:3]:
            at = texts.index(text)
            print(f"  text     {text!a}\n  expected {pieces_of(patterns, text)!a}")
            print(f"  found    {found[at]!a}")
        n_wrong += len(wrong)
    sys.exit(1 if n_wrong else 0)


if __name__ == "__main__":
    main()
