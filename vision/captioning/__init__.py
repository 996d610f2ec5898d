"""Image captioning: the metrics so far.

metrics/       BLEU-1 to 4, ROUGE-L, CIDEr-D, and the words they count
"""
