"""What others published about their systems, on their machines: never beside figures of ours, always with the source.

Only what the named source itself says. Where it does not name the hardware, the row says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One system's figures.

    Attributes
    ----------
    measured
        What the figures are about.
    hardware
        As the source names it.
    """

    system: str
    year: int
    measured: str
    figures: str
    hardware: str
    source: str
    url: str


PUBLISHED = (
    Published(
        "Kang et al.",
        2022,
        "MobileNet v2 on ImageNet (79 % accuracy), halo2",
        "verified in 10 s",
        "“commodity hardware”",
        "D. Kang: Trustless Verification of Machine Learning",
        "https://ddkang.github.io/blog/2022/10/18/trustless/",
    ),
    Published(
        "Modulus Labs, plonky2",
        2023,
        "a network of 18 million parameters",
        "proof in about 50 s",
        "“a powerful AWS machine”",
        "The Cost of Intelligence (2023), as summarised in a public thread; the paper itself was not at hand",
        "https://threadreaderapp.com/thread/1628732442172612609.html",
    ),
    Published(
        "opML",
        2023,
        "Llama 2 (13B in the title), one answer, no proof: a verification game if somebody objects",
        "2 minutes for the answer, 10 s to load the model",
        "a CPU, not named; not quantised",
        "opML is All You Need: Run a 13B ML Model on Ethereum",
        "https://ethresear.ch/t/opml-is-all-you-need-run-a-13b-ml-model-on-ethereum/17175",
    ),
    Published(
        "zkLLM",
        2024,
        "whole inference of a language model of 13 billion parameters",
        "proof in under 15 minutes, below 200 kB",
        "CUDA; the abstract names no device",
        "Sun, Li, Zhang: zkLLM: Zero Knowledge Proofs for Large Language Models",
        "https://arxiv.org/abs/2404.16109",
    ),
    Published(
        "zkGPT",
        2025,
        "GPT-2 inference",
        "proof in less than 25 s",
        "the abstract names none",
        "Qu et al.: zkGPT, USENIX Security 2025",
        "https://www.usenix.org/conference/usenixsecurity25/presentation/qu-zkgpt",
    ),
    Published(
        "DeepProve",
        2025,
        "GPT-2, sequences of 10 and of 1024 tokens",
        "0.02 and 0.5 tokens/s",
        "“the same benchmark machine” for both, not named",
        "Lagrange Engineering Update: August 2025",
        "https://www.lagrange.dev/engineering-updates/august-2025",
    ),
    Published(
        "NANOZK",
        2026,
        "transformers of GPT-2's scale, layer by layer",
        "proof in 43 s, 6.9 kB, verified in 23 ms",
        "the abstract names none",
        "Wang: NANOZK: Layerwise Zero-Knowledge Proofs for Verifiable Large Language Model Inference",
        "https://arxiv.org/abs/2603.18046",
    ),
)
