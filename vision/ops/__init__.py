"""Operators of detection in plain torch: boxes, non-maximum suppression, anchors, RoI pooling, feature pyramids.

    from vision.ops import boxes, nms, roi

    keep = nms.nms(found, scores, 0.5)                     # indices, best first
    pooled = roi.roi_align(maps, found, image, (7, 7), scale=1 / 16)

boxes.py     area, IoU, GIoU, offsets from anchors (encode and decode), clipping
nms.py       greedy non-maximum suppression, of one set of boxes or of many groups at once
anchors.py   anchors of a feature pyramid, default boxes of SSD, from strides
matching.py  assignment of boxes to anchors by IoU, sampling of positives and negatives
roi.py       RoIPool and RoIAlign, and RoIAlign over the levels of a pyramid
pyramid.py   feature pyramid network
masks.py     masks of regions: cut for a loss, pasted into an image
onnx_ops.py  what suppression and RoIAlign become in an exported graph

Boxes are (left, top, right, bottom) in pixels; every function works on any device, in any type of floats.
"""
