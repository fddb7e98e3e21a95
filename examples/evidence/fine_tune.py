"""Train all of EfficientNet-Lite0 on a long tail of pictures: plain cross entropy, plain sampling.

AdamW with one cosine, pictures shifted by up to an eighth; no mirror images, since arrows and
hands point. The last epoch counts, nothing is chosen. `emoji.py --tuned` runs it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import torch
from lite0 import lite0
from pictures import BATCH, Source, read
from torch import Tensor, nn
from torch.nn import functional

WARMUP_SHARE = 0.1


def fine_tune(
    source: Source, *, epochs: int = 15, rate: float = 1e-3, decay: float = 0.05, seed: int = 0
) -> nn.Module:
    """Train a network from ImageNet's weights.

    Args:
        source: The pictures and their size.
        epochs: Passes over them.
        rate: Largest learning rate.
        decay: Weight decay.
        seed: Of the order, the shifts and drop-out.
    """
    torch.manual_seed(seed)
    files, labels = source.listed("train")
    images, wanted = read(files, source.size), torch.from_numpy(labels)
    model = lite0(len(source.classes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=WARMUP_SHARE)
    started, seen = time.process_time(), 0
    for step, batch in enumerate(batches(len(images), epochs)):
        loss = functional.cross_entropy(model(shifted(images[batch])), wanted[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if (step + 1) * epochs // steps > seen:
            seen += 1
            spent = time.process_time() - started
            print(
                f"epoch {seen}: loss {loss:.2f}, {spent:.0f} s of CPU", file=sys.stderr, flush=True
            )
    return model.eval()


def batches(samples: int, epochs: int) -> Iterator[Tensor]:
    """Full batches, drawn without repetition within an epoch."""
    for _ in range(epochs):
        order = torch.randperm(samples)
        yield from torch.split(order[: samples // BATCH * BATCH], BATCH)


def shifted(images: Tensor) -> Tensor:
    """Each batch moved by up to an eighth of its width, the rim repeated."""
    pad = images.shape[-1] // 8
    y, x = torch.randint(0, 2 * pad + 1, (2,)).tolist()
    wide = functional.pad(images, (pad, pad, pad, pad), mode="replicate")
    return wide[:, :, y : y + images.shape[2], x : x + images.shape[3]]
