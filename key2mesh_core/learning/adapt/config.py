# SPDX-License-Identifier: Apache-2.0
"""Every setting of `key2mesh adapt`, with its reason. Imports no torch: `--help` is instant.

A recipe is a set of defaults. `--recipe paper` changes the defaults of the other options; whatever
else is given on the command line still counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from key2mesh_core.errors import TrainingError
from key2mesh_core.synthesis.config import SynthesisConfig


@dataclass(frozen=True)
class AdaptWeights:
    """Weights of the terms of the extractor's loss (Eq. 8); a term of weight 0 is not computed."""

    reprojection: float = 3.0
    """Eq. 6: the predicted body's keypoints, projected, against the detections. Alone it makes
    depths worse; beside rehearsal, 0, 3 and 10 differ by 0.2 mm, and 30 costs 1 mm. [10]"""
    domain: float = 0.0
    """Eq. 5: make the critic take target features for source features. [0.1]"""
    features: float = 0.0
    """Eq. 7: mean square difference from the source extractor's features of the same detections;
    the paper does not say of which. [20]"""
    agreement: float = 1.0
    """Where several cameras saw a person at once: Eq. 1 on the detections themselves, with the
    poses that the cameras agree on as labels (9 cameras: 78.2 to 75.2 mm). The pseudo-labels stay
    the source domain: without them, easy poses were forgotten. [0]"""
    rehearsal: float = 4.0
    """Eq. 1 on samples of the source domain, whose truth is known. The default needs it most: 1
    instead of 4 ended 0.9 mm worse. [0]"""


@dataclass(frozen=True)
class AdaptConfig:
    """Adapts a model to a robot's own detections, without labels. Values in brackets are the
    paper's, as of --recipe paper. Millimetres are mean PA-MPJPE on AIST++'s tuning sequences ch01
    and ch02, adapted to ch06, ch07, ch08 and ch10, one run each."""

    target: tuple[str, ...] = ()
    """Detections to adapt to: bag:PATH, openpose:FOLDER, coco:FILE, aistpp:PATH, npz:FILE;
    several are taken together."""
    output: Path = Path("adapted_model")
    """Folder of the adapted model bundle, ready for the node. Beside it, in OUTPUT.adaptation, lies
    the run: an interrupted one continues from there when the same command is given again."""
    recipe: Literal["default", "paper"] = "default"
    """Which defaults the other options have: what measured best, or the published method."""
    init: str = "default"
    """The model to start from: the one that comes with the project, a bundle's folder, or a
    checkpoint of `key2mesh pretrain`."""
    topic: str = ""
    """The topic of bags that name none; by default the only one of keypoints."""
    name: str = ""
    """The new bundle's name; the old one's with `-adapted` when not given."""
    body: str = "default"
    """The body file that the model was made with."""
    motions: tuple[str, ...] = ()
    """Motion capture in AMASS layout for the source domain, FOLDER or FOLDER=SHARE each. Without
    any, the source domain is made of pseudo-labels: the model's own predictions for the target,
    seen from other sides. That needs no recordings and measured better (2 passes took 83.5 to
    80.6 mm; with the motion capture of pre-training it stayed at 83.6, half and half gave 81.8)."""
    held_out: tuple[str, ...] = ()
    """Clips of --motions to leave out, as of `key2mesh pretrain`."""
    balance: float = 0.5
    """Draw frames of --motions by rarity of their pose, as of `key2mesh pretrain`. [0]"""
    horizontal_fov: float = 60.0
    """Horizontal field of view [degrees] of cameras that the target does not describe: all but
    those of bags with CameraInfo and of npz with intrinsics. It matters little: it decides how far
    a person at the edge of the image is turned towards the camera."""
    hold_out: float = 0.1
    """Share of every person's frames, the last ones, that is kept for validation."""
    weights: AdaptWeights = field(default_factory=AdaptWeights)
    """Weights of the loss."""
    synthesis: SynthesisConfig = field(
        default_factory=lambda: replace(
            SynthesisConfig(),
            jitter=(0.003, 0.012),
            drop=0.1,
            drop_limbs=0.05,
            drop_halves=0.0,
            tumble=0.3,
        )
    )
    """From poses of the source domain to keypoints. Fewer are hidden than in pre-training: the
    target shows what this detector misses (1.2 mm; half-seen people lose nothing), and keypoints
    are moved by half as much at most, because the detector's own errors are added (0.3 mm). More
    people tumble, because pseudo-labels may be wrong about which side is up."""
    reprojection_camera: Literal["fitted", "training"] = "fitted"
    """fitted: the body stands where its keypoints fit best; training: 6 m away, both sides
    normalised over the same keypoints. [training]"""
    trust_confidence: bool = True
    """Weigh keypoints of the re-projection by the detector's confidence. [False]"""
    smoothing: float = 3.0
    """Pseudo-labels are averaged over neighbouring frames by a Gaussian of this standard deviation
    [frames]: 0.5 mm. 0: not averaged."""
    detector_noise: float = 0.5
    """Share of the source samples that get the errors and the missing keypoints of a random
    detection of the target, on top of the synthesis' noise: 0.5 mm. [0]"""
    detector_noise_scale: float = 2.0
    """Factor on these errors: predictions follow their detections, which hides a part of them."""
    members: int = 4
    """Number of independent runs, each from the model as it was and with other random numbers,
    whose weights are averaged (Wortsman et al., ICML 2022); the time grows with it. 2 instead of 1
    gain 0.3 mm, 4 another 0.1, 8 or 24 another 0.1 at most. [1]"""
    epochs: int = 3
    """Passes of each member over the target, each followed by validation. More than 3 gained
    nothing. [5]"""
    least_steps: int = 270
    """Fewest updates of each member: an epoch of a small target is several passes. For a tenth of
    the frames, 270 steps instead of 27 took 80.7 to 79.3 mm. [1]"""
    batch_size: int = 256
    """Target samples per step and process, and as many source samples."""
    learning_rate: float = 1e-4
    """Adam's step size at the start, of extractor and critic."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """cosine: down to zero over the run; exponential: times 0.8 every epoch. [exponential]"""
    average: float = 0.99
    """Decay of the moving average of the weights, which is what is validated and exported. [0]"""
    critic_updates: int = 10
    """Updates of the critic before each of the extractor."""
    critic_dropout: float = 0.2
    """Dropout of the critic."""
    gradient_penalty: float = 50.0
    """Weight of the critic's gradient penalty (Eq. 4)."""
    always_adapt: bool = False
    """Export the last epoch even when validation says that the model was better before."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the linear layers. bfloat16 doubles the speed on processors that have it."""
    seed: int = 0
    """Everything random follows from it; a resumed run equals an uninterrupted one."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU if there is one. Several: torchrun --nproc-per-node N."""
    threads: int = 0
    """CPU threads; 0: all."""
    seconds_between_checkpoints: float = 60.0
    """How much work a killed run loses at most [s]."""

    def __post_init__(self) -> None:
        if not 0 <= self.detector_noise <= 1:
            raise TrainingError(f"detector_noise is a share in 0..1, got {self.detector_noise}")
        for name in ("members", "epochs", "least_steps", "batch_size", "critic_updates"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.horizontal_fov < 180:
            raise TrainingError(
                f"horizontal_fov lies between 0 and 180 degrees, got {self.horizontal_fov}"
            )
        if not 0 <= self.hold_out < 1:
            raise TrainingError(f"hold_out is a share in 0..1, got {self.hold_out}")
        if self.smoothing < 0 or not 0 <= self.average < 1:
            raise TrainingError(
                f"smoothing must not be negative and average lies in 0..1, got {self.smoothing} "
                f"and {self.average}"
            )

    @property
    def work_folder(self) -> Path:
        """Where the run lives."""
        return self.output.with_name(self.output.name + ".adaptation")


#: `key2mesh adapt --recipe NAME`.
ADAPT_RECIPES: dict[str, tuple[str, AdaptConfig]] = {
    "default": ("what measured best", AdaptConfig()),
    "paper": (
        "the published method",
        AdaptConfig(
            recipe="paper",
            weights=AdaptWeights(10.0, domain=0.1, features=20.0, agreement=0.0, rehearsal=0.0),
            synthesis=replace(SynthesisConfig(), tumble=0.0, joint_noise=0.0, exchange_halves=0.0),
            reprojection_camera="training",
            trust_confidence=False,
            members=1,
            epochs=5,
            least_steps=1,
            schedule="exponential",
            average=0.0,
            balance=0.0,
            detector_noise=0.0,
        ),
    ),
}
