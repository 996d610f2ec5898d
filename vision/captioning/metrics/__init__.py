"""Caption metrics without Java: BLEU-1 to 4, ROUGE-L, CIDEr-D, and the words they count.

scores.py      the metrics; tokenizer.py: words by the rules of the Penn Treebank
"""

from vision.captioning.metrics.scores import bleu, caption_scores, cider_d, rouge_l
from vision.captioning.metrics.tokenizer import tokenize

__all__ = ["bleu", "caption_scores", "cider_d", "rouge_l", "tokenize"]
