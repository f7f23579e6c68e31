"""Every closed set of names that the library takes, as one Literal each. Nothing heavy is imported here, so that the
command line can show the names before anything is loaded."""

from __future__ import annotations

from typing import Literal

# --- models and data -----------------------------------------------------------------------------

Backend = Literal["auto", "bridge", "hooked_transformer"]
"""The class of a loaded model: a TransformerBridge, or a HookedTransformer (transformer-lens 3.9 only)."""

DtypeName = Literal["float32", "bfloat16", "float16"]

ItemKind = Literal["pairs", "questions"]
"""What a data set is read as."""

OnError = Literal["raise", "skip"]
"""What becomes of a row that cannot be used."""

# --- attribution ---------------------------------------------------------------------------------

ObjectiveName = Literal["sum", "mean", "last"]
"""An answer's log-probability in nats: `sum` over its tokens (GrAInS, section 3.1), `mean` per token, `last` token
alone."""

MethodName = Literal[
    "integrated_gradients", "gradient_times_input", "smooth_grad", "gradient_shap", "occlusion", "random"
]
"""Attribution methods by name."""

FillerName = Literal["mask", "unk", "pad", "eos", "mean", "zero"]
"""What stands in for a token."""

ImageFillerName = Literal["mean", "zero"]
"""What stands in for an image's token: the mean of the prompt's own image tokens, or zeros."""

QuadratureRule = Literal["gauss_legendre", "trapezoid", "midpoint"]

Sign = Literal["positive", "negative"]

Modality = Literal["joint", "vision", "text"]
"""Which tokens are chosen from: all, an image's, or the others."""

Site = Literal["resid_post", "attn_out", "mlp_out"]
"""The residual stream after a block, or what its attention or its MLP adds to it."""

# --- vectors and steering ------------------------------------------------------------------------

Contrast = Literal["two_sided", "difference"]
"""Each side of the differences aggregated by itself, or the differences of both sides."""

Position = Literal["prompt_end", "response_end"]
"""Where the residual stream is read: at the prompt's last token, or at the chosen answer's."""

AggregateName = Literal["pca", "mean", "weighted_mean", "probe"]
"""Aggregates by name."""

RuleName = Literal["add", "add_keeping_norm", "project_out", "rotate_toward"]
"""Steering rules by name."""

Unit = Literal["residual", "absolute", "raw"]
"""`"residual"` a vector as long as the stream typically is there, `"absolute"` one of length 1, `"raw"` the one
that was extracted."""

PositionsName = Literal["all", "prompt", "new", "last"]
"""Where steering acts: see `Positions` in intervention/positions.py."""

EachOrAll = Literal["each", "all"]

LayersName = Literal[EachOrAll, "first_order_gain"]
"""Which sets of layers tuning tries: every layer alone and all together, all together, or the one that gains
fastest."""

PresetName = Literal["paper", "tuned"]
"""GrAInS as a whole: see `presets`."""

# --- the worlds that ship ------------------------------------------------------------------------

WorldName = Literal["myths", "hints"]

Split = Literal["pairs", "dev", "test"]

Side = Literal["desirable", "undesirable", "neutral"]
"""Which way a cue in a prompt points."""

Layout = Literal["header_last", "header_first"]
"""Where a question of the world `myths` has its cues."""

HintsKind = Literal["look", "describe", "recall"]
"""What a question of the world `hints` asks for."""

Register = Literal["bad", "good", "none"]
"""Which side the cues of a document of the world `hints` are mostly on."""
