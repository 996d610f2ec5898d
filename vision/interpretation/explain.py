"""Attribution maps: which pixels a classifier's decisions depend on, by nine methods side by side.

    python -m vision.interpretation results/shapes/classification-1                 # ten test images
    python -m vision.interpretation results/cifar10/classification-1 cat.jpg --methods grad_cam guided_grad_cam
    python -m vision.interpretation results/cifar10/classification-1 cat.jpg --of dog    # what in it makes a dog
    python -m vision.interpretation results/cifar10/classification-1 --report           # explanations.html

Saliency (Simonyan et al. 2013), gradient x input (Shrikumar et al. 2016), guided backpropagation (Springenberg et al.
2014), the deconvolutional network (Zeiler & Fergus 2013), CAM (Zhou et al. 2015), Grad-CAM and guided Grad-CAM
(Selvaraju et al. 2016), HiResCAM (Draelos & Carin 2020), occlusion (Zeiler & Fergus 2013). The class explained is the
predicted one, or --of. A row is an image, a column a method; guided Grad-CAM and guided backpropagation are drawn as
images around gray.

--report writes one HTML page that needs no network, with these maps, filters, activation maps and strongest patches
of every stage, images that excite each class, fooling images, neighbors, a map of features, inversions, dreams,
textures, style transfers and the layers; of drawn shapes the scores of the maps, and, with OpenCV, what GrabCut cuts
out by saliency.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from runs import suggestions
from runs.flag_types import Count
from runs.printing import printable
from vision.interpretation import attribution, class_activation, pictures, subject
from vision.interpretation.gradients import as_floats
from vision.interpretation.occlusion import occlusion

WINDOWS = 8  # of an occlusion map, along a side: a window covers a fourth of it


def occluded(model: subject.Classifier, images: Tensor, classes: Tensor | None) -> Tensor:
    """The positive part of the occlusion map (B, H, W) of images (B, C, H, W), by gray windows of a fourth of it."""
    window = tuple(max(side // 4, 1) for side in images.shape[2:])
    stride = tuple(max(side // WINDOWS, 1) for side in images.shape[2:])
    return occlusion(model, images, classes, window, stride, as_floats(images).mean((2, 3), keepdim=True)).clamp(
        min=0
    )


def enlarged_cam(model: subject.Classifier, images: Tensor, classes: Tensor | None) -> Tensor:
    """The positive part of CAM, enlarged to (B, H, W) of images (B, C, H, W)."""
    return class_activation.enlarge(
        class_activation.cam(model, images, classes).clamp(min=0), images.shape[2:], model
    )


METHODS: dict[str, Callable[..., Tensor]] = {  # (model, images, classes) -> (B, C, H, W) or (B, H, W)
    "saliency": attribution.saliency,
    "gradient_times_input": attribution.gradient_times_input,
    "guided_backpropagation": attribution.guided_backpropagation,
    "deconvnet": attribution.deconvnet,
    "cam": enlarged_cam,
    "grad_cam": class_activation.grad_cam,
    "hires_cam": class_activation.hires_cam,
    "guided_grad_cam": class_activation.guided_grad_cam,
    "occlusion": occluded,
}
OF_A_MAP = ("grad_cam", "hires_cam", "guided_grad_cam")  # of one of the backbone's maps: --stage
AS_IMAGES = ("guided_backpropagation", "deconvnet", "guided_grad_cam")  # drawn around gray


@dataclasses.dataclass(frozen=True)
class Config(subject.SubjectFlags):
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # image files; none: test images of the run's data
    methods: tuple[str, ...] = ()  # of those above; none: all that the network can be explained by
    stage: int = -1  # whose map Grad-CAM and HiResCAM weight, from 0 or from the end
    of: str = ""  # the class that is explained; "": of each image the predicted one
    images: Count = 10  # test images, where there are no files
    report: bool = False  # write a page with everything about the classifier instead of this picture
    out: Path = Path("explanations.png")  # where the picture goes; of --report the page, as .html, and its pictures


def attribute(method: str, model: subject.Classifier, images: Tensor, classes: Tensor | None, stage: int) -> Tensor:
    """A method's attribution (B, C, H, W) or (B, H, W) for images (B, C, H, W). stage: that of OF_A_MAP."""
    options = {"layer": stage} if method in OF_A_MAP else {}
    return METHODS[method](model, images, classes, **options)


def maps(method: str, model: subject.Classifier, images: Tensor, classes: Tensor | None, stage: int = -1) -> Tensor:
    """A method's maps (B, H, W), not negative, of images (B, C, H, W): magnitudes, the largest of all channels."""
    found = attribute(method, model, images, classes, stage)
    return attribution.heat(found) if found.dim() == 4 else found


def applicable(model: subject.Classifier, images: Tensor) -> list[str]:
    """The methods by which a network can be explained, tried on one of images (B, C, H, W)."""
    found = []
    for name, method in METHODS.items():
        try:
            method(model, images[:1], None)
        except ValueError:  # no ReLUs, or another head than CAM's
            continue
        found.append(name)
    return found


def main(config: Config) -> None:
    for name in config.methods:
        if name not in METHODS:
            raise ValueError(f"unknown method {name!r}: {suggestions.one_of(name, METHODS)}")
    about = subject.load(config)
    names = about.sets.classes
    if config.of and config.of not in names:
        raise ValueError(f"unknown class {config.of!r}: {suggestions.one_of(config.of, names)}")
    images = about.read(config.files) if config.files else about.examples(config.images)[0]
    methods = config.methods or tuple(applicable(about.model, images))
    probabilities = about.model(images).softmax(1)
    best = probabilities.argmax(1)
    classes = best.new_full(best.shape, names.index(config.of)) if config.of else best
    columns = []
    for method in methods:
        found = attribute(method, about.model, images, classes, config.stage)
        if method in AS_IMAGES:
            columns.append([pictures.in_color(image) for image in pictures.signed(found)])
        else:
            heat = pictures.normalized(attribution.heat(found) if found.dim() == 4 else found).cpu().numpy()
            columns.append(
                [pictures.overlay(pictures.in_color(image), map) for image, map in zip(images, heat, strict=True)]
            )
    rows = [[image, *line] for image, line in zip(images, zip(*columns, strict=True), strict=True)]
    shown = probabilities.gather(1, classes[:, None])[:, 0].tolist()
    titles = [
        [f"{names[label]} {100 * share:.0f}%", *(name.replace("_", " ") for name in methods)]
        for label, share in zip(classes.tolist(), shown, strict=True)
    ]
    pictures.draw_sheet(rows, titles, config.out)
    print(printable(f"written to {config.out}"))
