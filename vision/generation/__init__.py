"""Generative models of images: `python -m vision.generation`.

train.py         Config, recipes, MODELS, training loop; predict.py: load(run).sample(n) and the other commands
generator.py     the contract of models
autoencoder.py   fully connected and convolutional; vae.py: the variational one; posteriors.py: Gaussian, planar, IAF
rbm_pretraining.py  `python -m vision.generation.rbm_pretraining`: a deep autoencoder with and without; rbm.py
coders.py        a backbone as encoder, and its way back
autoregressive.py   exact likelihoods, samples pixel by pixel; masked.py: masked convolutions, with cached activations
pixelcnn.py      PixelCNN and Gated PixelCNN; pixelrnn.py: Row LSTM and Diagonal BiLSTM
likelihoods.py   distributions of pixels
gan.py           generator and discriminator; mlp_gan.py, dcgan.py, r3gan.py: their networks
adversarial_losses.py   minimax, non-saturating, least squares, Wasserstein, relativistic, and penalties
classifier_metrics.py   FID, classifier score, confidence and balance by a classifier of ours
mixtures.py      GANs on points of the plane; toy_points.py: their mixtures; density_pictures.py: pictures
data.py          binarized and quantized images; plots.py: grids and films
"""

from vision.generation.predict import Trained, load

__all__ = ["Trained", "load"]
