"""What a command line that the parser refuses may have meant: the option, the value, the command.

The parser finds near spellings. The tables here hold what is spelled quite differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from d2cli.limits import near_choice

#: Options under names that other tools give them; the first that the command has is suggested.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "--emb": ("-e", "--embedding", "--embeddings", "--embs", "--features", "--vectors", "--input",
              "-i", "--inputs"),
    "--emb-key": ("--embedding-key", "--embeddings-key", "--embedding-column", "--emb-column",
                  "--embedding-col", "--emb-col", "--column", "--key"),
    "--scores": ("-s", "--score", "--difficulty", "--quality", "--weights"),
    "--scores-key": ("--score-key", "--score-column", "--scores-column", "--score-col"),
    "--labels": ("-l", "-y", "--label", "--class", "--classes", "--targets", "--y"),
    "--labels-key": ("--label-key", "--label-column", "--labels-column", "--label-col"),
    "--ratio": ("-r", "--fraction", "--frac", "--keep", "--keep-ratio", "--keep-fraction", "--kept",
                "--percent", "--percentage", "--rate", "--budget", "--subset-ratio"),
    "--size": ("-n", "--num", "--number", "--count", "--n-samples", "--num-samples", "--n-select",
               "--subset-size"),
    "--cost": ("--costs", "--tokens", "--lengths", "--prices"),
    "--cost-key": ("--cost-column", "--tokens-key", "--token-column", "--length-key"),
    "--cost-budget": ("--token-budget", "--tokens-budget", "--budget-cost", "--max-tokens",
                      "--max-cost", "--total-cost"),
    "--out": ("-o", "--output", "--outfile", "--out-file", "--output-file", "--output-path",
              "--save", "--dest"),
    "--id-column": ("--id", "--ids", "--id-col", "--id-key", "--ids-key", "--uid", "--join",
                    "--join-on", "--on"),
    "--n-neighbors": ("--k", "--neighbors", "--neighbours", "--n-neighbours", "--num-neighbors",
                      "--knn"),
    "--metric": ("--distance", "--similarity", "--space"),
    "--method": ("--algorithm", "--backend", "--index"),
    "--threads": ("-j", "-t", "--jobs", "--n-jobs", "--num-threads", "--workers", "--num-workers",
                  "--cpus", "--cores"),
    "--max-memory": ("--memory", "--mem", "--ram", "--memory-limit", "--max-ram", "--max-mem",
                     "--mem-limit", "--memory-budget"),
    "--work-dir": ("--tmp-dir", "--tmpdir", "--tmp", "--temp", "--temp-dir", "--tempdir",
                   "--temporary", "--scratch", "--scratch-dir", "--workdir", "--working-dir",
                   "--spill-dir"),
    "--plan": ("--dry-run", "--dryrun", "--estimate"),
    "--explain": ("-v", "--verbose"),
    "--quiet": ("--silent",),
    "--higher-is": ("--direction", "--higher", "--lower-is", "--ascending", "--descending"),
    "--score-transform": ("--transform", "--normalize", "--normalise", "--scale", "--shift"),
    "--cutoff": ("--beta", "--prune-hardest", "--hard-cutoff", "--cutoff-rate"),
    "--gamma-reverse": ("--gamma", "--gamma-r"),
    "--keep-lift": ("--lift", "--min-lift", "--least-lift", "--keep-quality", "--min-quality"),
    "--gamma-forward": ("--gamma-f",),
    "--bandwidth": ("--sigma",),
    "--balance": ("--balanced", "--class-balance", "--stratify", "--stratified"),
    "--complement": ("--invert", "--inverse", "--dropped"),
    "--probs": ("--prob", "--probabilities", "--softmax", "--proba"),
    "--logits": ("--logit", "--outputs", "--dynamics", "--predictions", "--preds"),
    "--kind": ("--kinds", "--score-kind", "--type", "--metric", "--method"),
    "--epochs": ("--epoch",),
    "--window": ("--window-size", "--windows"),
    "--target": ("--target-emb", "--target-embeddings", "--downstream", "--reference"),
    "--n-clusters": ("--clusters", "--num-clusters", "--n-centers", "--n-centroids"),
    "--selected": ("--selection", "--selections", "--subset", "--kept"),
    "--propagated": ("-p", "--propagate", "--propagated-scores"),
    "--graph": ("-g", "--knn-graph"),
}  # fmt: skip
#: Options whose value means something else than that of the option which is suggested.
_UNLIKE = dict.fromkeys(
    ("--prune-ratio", "--pruning-ratio", "--prune-rate", "--pruning-rate", "--prune", "--drop",
     "--drop-ratio", "--remove"),
    "--ratio is the fraction that is kept: 1 minus the fraction that is pruned",
)  # fmt: skip
#: Values under other names.
_VALUES = {
    "l2": "euclidean", "l2sq": "euclidean", "cos": "cosine", "angular": "cosine", "dot": "cosine",
    "ip": "cosine", "inner-product": "cosine", "brute": "exact", "brute-force": "exact",
    "flat": "exact", "faiss": "blocks", "ivf": "blocks", "hard": "harder", "difficult": "harder",
    "easy": "easier", "good": "better", "min-max": "minmax", "equal": "uniform",
    "centre": "center", "centered": "center", "mean": "center",
    "balanced": "uniform", "stratified": "proportional", "ids": "id", "indices": "index",
    "bool": "mask", "rbf": "gaussian", "laplacian": "exponential", "knn": "directed",
}  # fmt: skip

_CHOICE = re.compile(r"'(?P<value>[^']*)' is not one of (?P<choices>'.*')\.?$")


def explained(
    error: Any, arguments: list[str], options: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    """(message, hint) of an error of the parser; None if it has no message.

    `options` are the long options of each command.
    """
    message = " ".join(error.format_message().split())
    if not message:
        return None
    context = getattr(error, "ctx", None)
    command = context.info_name if context is not None else None
    if command not in options:
        command = next((word for word in arguments if word in options), None)
    name = f"d2prune {command}" if command else "d2prune"
    general = f"{name} --help lists the options"
    wrong = getattr(error, "option_name", None)
    if wrong and message.startswith("No such option"):
        if not wrong.startswith("--"):  # of -emb the parser sees -e
            wrong = next((word for word in arguments if _is_long(word, wrong)), wrong)
        return f"No such option: {wrong}", _option_hint(wrong, command, options, general)
    if choice := _CHOICE.search(message):
        flag = error.param.opts[-1]
        among = re.findall("'([^']*)'", choice["choices"])
        said = f"{flag} must be one of {', '.join(among)}, not {choice['value']!r}"
        near = near_choice(choice["value"], among, _VALUES)
        return said, f"did you mean {flag} {near}?" if near else general
    return message, general


def _option_hint(
    wrong: str, command: str | None, options: Mapping[str, list[str]], general: str
) -> str:
    """The hint for an option that `command` does not have."""
    if command is None:
        return f"options follow a command: d2prune {'|'.join(options)}"
    if not wrong.startswith("--") and len(wrong) > 2:
        wrong = f"-{wrong}"
    if wrong in ("-V", "--version"):
        return "d2prune --version shows the version"
    if wrong in _UNLIKE and "--ratio" in options[command]:
        return _UNLIKE[wrong]
    others = [other for other, names in options.items() if wrong in names]
    if others and wrong not in options[command]:
        return f"{wrong} is an option of {', '.join(others)}; {general}"
    near = near_options(wrong, options[command])
    return f"did you mean {' or '.join(near)}? {general}" if near else general


def _is_long(word: str, short: str) -> bool:
    """Whether a word is a long option with one hyphen, read as the short option `short`."""
    return word.startswith(short) and len(word) > len(short) and word[1] != "-"


def near_options(wrong: str, names: Iterable[str]) -> list[str]:
    """The options of `names` that `wrong` most likely stands for, at most two."""
    names = list(names)
    word = wrong.lower().replace("_", "-").split("=")[0]
    if word in names:
        return [word]
    if meant := [name for name in names if word in _OPTIONS.get(name, ())]:
        return meant[:1]
    if len(word) < 4:  # -x, --y
        return []
    longer = [name for name in names if name.startswith(word)]
    shorter = [name for name in names if len(name) > 4 and word.startswith(name)]
    return (longer or shorter or get_close_matches(word, names, n=1))[:2]
