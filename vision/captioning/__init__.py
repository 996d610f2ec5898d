"""Image captioning and visual question answering: `python -m vision.captioning`, `python -m vision.captioning.vqa`.

train.py       Config, recipes, training loop; predict.py: load(run).predict(images), pictures of attention
captioner.py   a backbone and a decoder; decoders.py: plain, soft and hard; attention.py: their equations
beam.py        beam search; vocabulary.py: words as numbers
data.py        scenes and folders with captions, batched; scenes.py: drawn scenes, their sentences
evaluation.py  captions of samples, exact matches, pointing; plots.py: where the network looked
metrics/       BLEU-1 to 4, ROUGE-L, CIDEr-D, and the words they count
dense.py       regions with sentences; regions.py: the scenes' regions, the network, its score
vqa.py         questions about scenes, answered; questions.py: the questions; answering.py: the network
"""

from vision.captioning.predict import Trained, load

__all__ = ["Trained", "load"]
