"""Penn Treebank tokenization of captions, in Python: what caption metrics count as words.

    tokenize("A dog's bowl, isn't it?")                  # ['a', 'dog', "'s", 'bowl', 'is', "n't", 'it']

As the captions of COCO are scored (Chen et al. 2015, arXiv 1504.00325, section 3): lower case, the rules of the Penn
Treebank, and no punctuation. The reference is the PTBTokenizer of Stanford CoreNLP 3.4.1, a Java program, that
pycocoevalcap runs.
"""

from __future__ import annotations

import re

PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))  # that is not counted
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SPLIT = {  # two words in one
    **{"cannot": ("can", "not"), "gonna": ("gon", "na"), "wanna": ("wan", "na"), "gotta": ("got", "ta")},
    **{"gimme": ("gim", "me"), "lemme": ("lem", "me"), "'tis": ("'t", "is"), "'twas": ("'t", "was")},
}
ABBREVIATIONS = (  # that keep their period, wherever they stand
    *("mr mrs ms dr prof st ave blvd rd jr sr vs etc inc co corp ltd ft gen col sgt capt lt rev hon mt sq".split()),
    *("jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri".split()),
    *("pres gov sen rep esq bros dept est al ky fla calif va".split()),
)
TOKEN = re.compile(
    rf"""
      https?://[^\s"<>|()]+ | www\.[^\s"<>|()]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+     # addresses
    | (?:{"|".join(ABBREVIATIONS)})\.(?!\w) | (?:[a-z]\.)+[a-z]\b(?!\.) | (?:[a-z]\.)+     # abbreviations
    | n't\b | '\d\ds | '(?:s|m|d|re|ve|ll)\b | '[nt]\b'? | '(?:em|til|cause)\b      # contractions, '90s
    | \d+[ ]\d+/\d+ | [+-]?\d+(?:[,.:/]\d+)*(?:(?:st|nd|rd|th|s)\b)?(?:[-_]\w+)*    # numbers, 22 3/4, 3rd, 10-foot
    | \w+(?:[-/_.]\w+)*(?:'(?!(?:s|m|d|re|ve|ll|all)\b)\w+)*                         # words, black-and-white, o'clock
    | \.\.\.+ | --+ | [?!]+ | `` | \S
    """,
    re.VERBOSE,
)
NEGATION = re.compile(r"(\w)(n't)\b")
JOINED = {'"': "''"} | BRACKETS


def words(text: str) -> list[str]:
    """All tokens of a text in lower case, with punctuation."""
    text = NEGATION.sub(r"\1 \2 ", text.lower().replace("’", "'").replace("‘", "'"))
    found = []
    for token in TOKEN.findall(text):
        found += SPLIT.get(token, (JOINED.get(token, token.replace(" ", "\xa0")),))
    return found


def tokenize(text: str) -> list[str]:
    """The words of a caption, in lower case and without punctuation."""
    return [word for word in words(text) if word not in PUNCTUATION]
