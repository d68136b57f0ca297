# SPDX-License-Identifier: Apache-2.0
"""Every setting of `key2mesh adapt`, with its reason. Imports no torch, so `--help` is instant.

A recipe is a set of defaults. `--recipe paper` changes the defaults of the other options, which may
still be overridden.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from key2mesh_core.errors import TrainingError
from key2mesh_core.synthesis.config import PAPER_SYNTHESIS, SynthesisConfig


@dataclass(frozen=True)
class AdaptWeights:
    """Weights of the terms of the extractor's loss; a term with weight 0 is not computed."""

    reprojection: float = 3.0
    """Re-projection: distance between the predicted body's projected keypoints and the detections.
    Alone it makes depths worse; with rehearsal, 0, 3 and 10 differ by 0.2 mm, and 30 costs 1 mm.
    [10]"""
    domain: float = 0.0
    """Domain loss: make the critic mistake target features for source features. [0.1]"""
    features: float = 0.0
    """Feature regularisation: mean square difference from the source extractor's features of the
    same detections. The paper does not say on which input. [20]"""
    agreement: float = 1.0
    """If several cameras saw a person at once: the supervised loss on the detections themselves,
    with the poses that the cameras agree on as labels (9 cameras: 78.2 to 75.2 mm). The
    pseudo-labels remain the source domain, because without them easy poses were forgotten. [0]"""
    rehearsal: float = 4.0
    """The supervised loss on samples of the source domain, whose ground truth is known. It is the
    most important term of the default: 1 instead of 4 was 0.9 mm worse. [0]"""


@dataclass(frozen=True)
class AdaptConfig:
    """Adapts a model to a robot's own detections, without labels. Values in brackets are those of
    the paper (--recipe paper). Figures in mm are mean PA-MPJPE on AIST++'s tuning sequences ch01
    and ch02 after adapting to ch06, ch07, ch08 and ch10, one run each."""

    target: tuple[str, ...] = ()
    """Detections to adapt to: bag:PATH, openpose:FOLDER, coco:FILE, aistpp:PATH, npz:FILE; several
    are combined."""
    output: Path = Path("adapted_model")
    """Folder of the adapted model bundle, ready for the node. The run is stored in
    OUTPUT.adaptation; the same command resumes an interrupted run from there."""
    recipe: Literal["default", "paper"] = "default"
    """Defaults of the other options: those that measured best, or the published method."""
    init: str = "default"
    """The model to start from: "default" for the shipped one, a bundle's folder, or a checkpoint of
    `key2mesh pretrain`."""
    topic: str = ""
    """Keypoint topic of bags whose name has none; by default the only one."""
    layout: str = ""
    """Keypoint layout of files (coco_17, halpe_26...); by default inferred from their number."""
    name: str = ""
    """The new bundle's name; by default the old one's with `-adapted`."""
    body: str = "default"
    """The body file that the model was trained with."""
    motions: tuple[str, ...] = ()
    """Motion capture in AMASS layout for the source domain, each as FOLDER or FOLDER=SHARE. By
    default, the source domain consists of pseudo-labels: the model's own predictions for the
    target, seen from other viewpoints. This needs no motion capture and measured better (2 passes:
    from 83.5 to 80.6 mm; with the motion capture of pre-training 83.6, half of each 81.8)."""
    held_out: tuple[str, ...] = ()
    """Clips of --motions to leave out, as in `key2mesh pretrain`."""
    balance: float = 0.5
    """Sample frames of --motions by the rarity of their pose, as in `key2mesh pretrain`. [0]"""
    horizontal_fov: float = 60.0
    """Horizontal field of view [degrees] of cameras that the target does not describe, that is, all
    but bags with CameraInfo and npz with intrinsics. It has little effect: it determines how far a
    person at the edge of the image is turned towards the camera."""
    hold_out: float = 0.1
    """Share of every person's frames, the last ones, that is used for validation."""
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
    """Synthesis of keypoints from poses of the source domain. It hides fewer keypoints than in
    pre-training, because the target shows what this detector misses (1.2 mm; half-seen people lose
    nothing), and adds at most half of the noise, because the detector's own errors are added (0.3
    mm). More people get an arbitrary rotation, because pseudo-labels may be wrong about which way
    is up."""
    reprojection_camera: Literal["fitted", "training"] = "fitted"
    """Camera of the re-projection. fitted: the body is where its keypoints fit best; training: it
    is 6 m away, and both sides are normalised over the same keypoints. [training]"""
    trust_confidence: bool = True
    """Weight the re-projection by the detector's confidence. [False]"""
    smoothing: float = 3.0
    """Standard deviation [frames] of the Gaussian that averages pseudo-labels over neighbouring
    frames (gains 0.5 mm); 0: no averaging."""
    detector_noise: float = 0.5
    """Share of the source samples that get the errors and the missing keypoints of a random
    detection of the target in addition to the synthesis's noise (gains 0.5 mm). [0]"""
    detector_noise_scale: float = 2.0
    """Factor on these errors, because predictions follow their detections, which hides a part of
    the errors."""
    members: int = 4
    """Number of independent runs whose weights are averaged (Wortsman et al., ICML 2022), each from
    the initial model and with other random numbers; the time is proportional to it. 2 instead of 1
    gain 0.3 mm, 4 another 0.1, 8 or 24 at most another 0.1. [1]"""
    epochs: int = 3
    """Passes of each member over the target, each followed by validation. More than 3 gained
    nothing. [5]"""
    least_steps: int = 270
    """Minimum number of updates of each member, so that an epoch of a small target is several
    passes. With a tenth of the frames, 270 steps instead of 27 improved 80.7 to 79.3 mm. [1]"""
    batch_size: int = 256
    """Number of target samples per step and process, and of source samples."""
    learning_rate: float = 1e-4
    """Adam's initial learning rate, for extractor and critic."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """Learning rate schedule. cosine: down to zero over the run; exponential: times 0.8 every
    epoch. [exponential]"""
    average: float = 0.99
    """Decay of the moving average of the weights, which is validated and exported. [0]"""
    batch_statistics: bool = False
    """Let BatchNorm normalise by the statistics of each batch while the extractor learns, as in the
    paper. A bundle has no BatchNorm: start from a checkpoint. [True]"""
    dropout: float = 0.0
    """Dropout of the extractor while it learns; start from a checkpoint. [0.2]"""
    select_on: Literal["", "3dpw-validation"] = ""
    """Select the model by PA-MPJPE on labelled data, as the paper's authors do, every
    `select_every` steps. By default, a criterion without labels selects, after each epoch."""
    select_root: Path = Path("3DPW")
    """Folder of 3DPW for --select-on."""
    select_body_folder: Path = Path("smpl")
    """Folder with your SMPL files for --select-on."""
    select_regressor: Path = Path("J_regressor_h36m.npy")
    """Human3.6M's joint regressor for --select-on."""
    select_every: int = 500
    """Steps between two measurements of --select-on. [500]"""
    select_images: int = 4096
    """About this many images, evenly spread, are measured for --select-on."""
    critic_updates: int = 10
    """Number of critic updates before each update of the extractor."""
    critic_dropout: float = 0.2
    """Dropout of the critic."""
    gradient_penalty: float = 50.0
    """Weight of the critic's gradient penalty."""
    always_adapt: bool = False
    """Export the last epoch even if validation finds that the initial model is better."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the linear layers. bfloat16 doubles the speed on processors that support it."""
    seed: int = 0
    """Seed of all random numbers; a resumed run equals an uninterrupted one."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU if there is one. Several: torchrun --nproc-per-node N."""
    threads: int = 0
    """CPU threads; 0: all."""
    seconds_between_checkpoints: float = 60.0
    """Time between checkpoints [s]: the most that a killed run loses."""

    def __post_init__(self) -> None:
        counts = ("members", "epochs", "least_steps", "batch_size", "critic_updates")
        counts = (*counts, "select_every", "select_images")
        for name, good, rule in (
            *((name, getattr(self, name) >= 1, "at least 1") for name in counts),
            ("detector_noise", 0 <= self.detector_noise <= 1, "within 0 and 1"),
            ("hold_out", 0 <= self.hold_out < 1, "within 0 and 1"),
            ("horizontal_fov", 0 < self.horizontal_fov < 180, "between 0 and 180 degrees"),
            ("smoothing", self.smoothing >= 0, "at least 0"),
            ("average", 0 <= self.average < 1, "within 0 and 1"),
            ("dropout", 0 <= self.dropout < 1, "within 0 and 1"),
        ):
            if not good:
                raise TrainingError(f"{name} must be {rule}, got {getattr(self, name)}")

    @property
    def work_folder(self) -> Path:
        """Folder of the run."""
        return self.output.with_name(self.output.name + ".adaptation")


#: `key2mesh adapt --recipe NAME`.
ADAPT_RECIPES: dict[str, tuple[str, AdaptConfig]] = {
    "default": ("the defaults that measured best", AdaptConfig()),
    "paper": (
        "the published method",
        AdaptConfig(
            recipe="paper",
            weights=AdaptWeights(10.0, domain=0.1, features=20.0, agreement=0.0, rehearsal=0.0),
            synthesis=PAPER_SYNTHESIS,
            reprojection_camera="training",
            trust_confidence=False,
            members=1,
            epochs=5,
            least_steps=1,
            schedule="exponential",
            average=0.0,
            balance=0.0,
            detector_noise=0.0,
            batch_statistics=True,
            dropout=0.2,
        ),
    ),
}
