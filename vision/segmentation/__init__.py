"""Semantic segmentation: `python -m vision.segmentation`.

train.py                Config, recipes, training loop; predict.py: load(run).predict(images), pictures and masks
segmenter.py            the contract of networks, and which of a backbone's maps they read
fcn.py                  FCN-32s, FCN-16s, FCN-8s; dilated_fcn.py: torchvision's fcn_resnet50; dilation.py
segnet.py, unet.py      encoders and decoders
full_resolution.py, sliding_window.py   the baselines of CS231n's lecture 11
upsampling.py           nearest, bed of nails, max-unpooling, transposed convolution; upsampling_picture.py draws them
torchvision_weights.py  published networks
data.py                 scenes, folders of masks and annotated folders, resized, cropped, augmented and batched
evaluation.py           a network on samples; metrics.py: mean IoU, pixel accuracy; plots.py: pictures
"""

from vision.segmentation.predict import Trained, load

__all__ = ["Trained", "load"]
