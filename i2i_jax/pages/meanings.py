"""What loss terms and figures mean, in one line each, for the pages."""

TERMS = {
    "gan": "adversarial loss of the posterior branch, or of the only one",
    "gan_prior": "adversarial loss of images from a random z",
    "l1": "L1 distance to the target, images on a -1 to 1 scale",
    "kl": "distance of the encoder's z from N(0, I), in nats",
    "latent": "L1 distance between a random z and the z that the encoder finds in its image",
    "mode_seeking": "distance of two z over the distance of their images",
    "cross_entropy": "cross-entropy of the class of each pixel",
}

FIGURES = {
    "l1": "mean absolute difference from the target, images on a 0 to 1 scale",
    "psnr": "peak signal-to-noise ratio to the target, in dB",
    "ssim": "structural similarity to the target; 1 is equal",
    "l1_encoded": "l1 of the image from the target's own z: how well z and input describe the target",
    "latent_consistency": "mean absolute difference between z and the z that the encoder finds in its image",
    "active_dimensions": "numbers of z that the encoder uses; 0: z has no effect",
    "kl": "distance of the encoder's z from N(0, I), in nats; near 0: the encoder tells nothing",
    "modes": "of the six right answers to an outline, how many the samples contain",
    "valid": "share of samples that are one of the six right answers",
    "total_variation": "how unequally the six right answers are drawn; 0 is equally",
    "fid": "Fréchet distance of outputs and targets in Inception's features",
    "kid": "kernel distance of outputs and targets in Inception's features",
    "fjd": "Fréchet distance of outputs and targets together with their inputs",
    "precision": "share of outputs that look like a target",
    "recall": "share of targets that the outputs cover",
    "frechet_squeezenet_caffe": "Fréchet distance of outputs and targets in SqueezeNet's features; not FID",
    "kernel_squeezenet_caffe": "kernel distance of outputs and targets in SqueezeNet's features; not KID",
    "fjd_squeezenet_caffe": "Fréchet distance of outputs and targets together with their inputs, in SqueezeNet's features",
    "precision_squeezenet_caffe": "share of outputs that look like a target",
    "recall_squeezenet_caffe": "share of targets that the outputs cover",
    "squeezenet_caffe": "distance to the target in SqueezeNet's features; not LPIPS",
    "diversity_squeezenet_caffe": "distance between samples of the same input in SqueezeNet's features",
    "pixel_accuracy": "share of pixels whose class a segmenter finds in the output",
    "class_accuracy": "the same, averaged over classes",
    "iou": "overlap of the segmenter's classes with those of the input, averaged over classes",
}


def of_figure(name: str) -> str:
    """What a figure of an evaluation means; "" if that is not known.

    LPIPS has one line for all its versions and networks; an end of an interval and the value of the targets have that of their figure.
    """
    if name.startswith("diversity_lpips"):
        return "LPIPS between samples of the same input"
    if name.startswith("lpips"):
        return "LPIPS to the target"
    for suffix, addition in (
        ("_low", "lower end of the 95 % interval"),
        ("_high", "upper end of the 95 % interval"),
        ("_real", "of the targets"),
    ):
        if name.endswith(suffix) and name.removesuffix(suffix) in FIGURES:
            return f"{FIGURES[name.removesuffix(suffix)]}: {addition}"
    return FIGURES.get(name, "")
