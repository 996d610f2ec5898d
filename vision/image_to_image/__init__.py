"""Images into images: fast style transfer, super-resolution, colorization: `python -m vision.image_to_image`.

train.py        Config, recipes, training loop; predict.py: load(run).predict(images), pictures and films
network.py      image transformation networks: residual blocks, instance normalization
tasks.py        what they are given and make in each task
perceptual.py   feature and style reconstruction losses by a frozen backbone
quality.py      PSNR and SSIM
data.py         named image sets and folders of pictures, cropped and batched
"""

from vision.image_to_image.predict import Trained, load

__all__ = ["Trained", "load"]
