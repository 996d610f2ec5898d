"""Interpretation: what a network's decisions depend on, and what its layers have learned.

gradients.py            gradients of a class score by pixels or a layer's output
attribution.py          saliency, gradient x input, guided backpropagation, deconvnet
class_activation.py     CAM, Grad-CAM, HiResCAM, guided Grad-CAM
occlusion.py            occlusion maps, perturbation saliency
localization.py         pointing game, relevance mass and rank accuracy
sanity_check.py         do the maps depend on the weights
explain.py              maps of a run's classifier: `python -m vision.interpretation RUN IMAGE...`
report.py               all of it on one page: `python -m vision.interpretation RUN --report`
attribution_scores.py   localization and sanity check of every method, on drawn shapes or boxes
located.py              images in which the pixels of the explained class are known
receptive_field.py      receptive fields, exact; layer_table.py: size arithmetic of every layer
activations.py          filters, maps and strongest patches; neighbors.py, embedding.py: features against pixels
gradient_ascent.py      images optimized by regularized steps; feature_visualization.py: of classes and neurons
deepdream.py            DeepDream; feature_inversion.py: images with the same maps
gram.py                 Gram matrices; style_transfer.py: pictures made by them
texture_synthesis.py    textures by Gram matrices and by neighborhoods.py; tree_quantizer.py: their fast search
features.py             the backbone that they compare pictures by; examples.py: any run's, with images for it
subject.py              the classifier that a program is about; pictures.py: heat maps and sheets
"""
