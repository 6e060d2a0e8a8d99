"""What the command line says about options, values and words that it does not know."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from d2cli.cli import hints
from d2cli.cli.main import _OPTIONS
from d2cli.commands.numbers import decimal_number, whole_number
from d2cli.errors import UsageError

BASE = ["select", "--emb", "emb.npy", "--scores", "scores.npy"]


@pytest.fixture
def refused(run_cli, data):
    """Runs a command line that must be refused as wrong usage; returns its error and hint."""

    def call(*args):
        code, out, err = run_cli(*args)
        assert (code, out) == (2, ""), err
        error, *hint = err.splitlines()
        assert error.startswith("error: ")
        assert len(hint) <= 1
        assert all(line.startswith("hint: ") for line in hint)
        return error.removeprefix("error: "), "".join(hint).removeprefix("hint: ")

    return call


OTHER_NAMES = {
    "--embeddings": "--emb", "--embedding": "--emb", "--features": "--emb", "-e": "--emb",
    "-emb": "--emb", "--embeddings-key": "--emb-key", "--score": "--scores",
    "--scores-column": "--scores-key", "--label": "--labels", "--targets": "--labels",
    "--fraction": "--ratio", "--keep": "--ratio", "--num-samples": "--size", "-n": "--size",
    "--output": "--out", "-o": "--out", "--out-file": "--out", "--ids": "--id-column",
    "--k": "--n-neighbors", "--num_workers": "--threads", "-j": "--threads",
    "--memory": "--max-memory", "--tmp-dir": "--work-dir", "--tmpdir": "--work-dir",
    "--scratch": "--work-dir", "--temp": "--work-dir", "--dry-run": "--plan",
    "--verbose": "--explain",
    "--direction": "--higher-is", "--gamma": "--gamma-reverse", "--beta": "--cutoff",
    "--Ratio": "--ratio", "--n-neigbors": "--n-neighbors", "--exclud": "--exclude",
}  # fmt: skip


@pytest.mark.parametrize("wrong", OTHER_NAMES)
def test_an_unknown_option_suggests_the_right_one(refused, wrong):
    error, hint = refused(*BASE, "--ratio", "0.5", wrong, "x")
    assert error == f"No such option: {wrong}"
    assert hint.split("? ")[0] == f"did you mean {OTHER_NAMES[wrong]}"


def test_an_option_of_other_commands_names_them(refused):
    error, hint = refused(*BASE, "--logits", "z.npy", "--ratio", "0.5")
    assert error == "No such option: --logits"
    assert hint.startswith("--logits is an option of score; ")
    hint = refused("graph", "--emb", "emb.npy", "--scores", "s.npy", "--out", "g.arrow")[1]
    assert hint.startswith("--scores is an option of propagate, select, report, compare; ")


def test_pruned_fractions_are_told_from_kept_ones(refused):
    assert "1 minus the fraction that is pruned" in refused(*BASE, "--prune-ratio", "0.7")[1]


def test_a_far_name_suggests_nothing(refused):
    hint = refused(*BASE, "--ratio", "0.5", "--zzzz", "1")[1]
    assert hint == "d2prune select --help lists the options"


def test_options_before_the_command_and_a_version_after_it(refused):
    assert "options follow a command" in refused("--emb", "emb.npy")[1]
    assert "d2prune --version" in refused(*BASE, "--version")[1]


def test_suggestions_are_options_that_exist():
    every = {name for names in _OPTIONS.values() for name in names}
    assert set(hints._OPTIONS) <= every
    for names in _OPTIONS.values():
        for right, others in hints._OPTIONS.items():
            for other in others:
                near = hints.near_options(other, names)
                assert set(near) <= set(names)
                if right in names and other not in names:
                    assert near, (right, other)


# -- values ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("--ratio 30%", "write --ratio 0.3"),
        ("--ratio 30", "--ratio 0.3 keeps 30 %"),
        ("--ratio 12.5", "--ratio 0.125 keeps 12.5 %"),
        ("--ratio 5000", "for a number of rows use --size"),
        ("--ratio 0,3", "write --ratio 0.3"),
        ("--ratio 3/10", "write --ratio 0.3"),
        ("--ratio 12,5%", "write --ratio 0.125"),
        ("--size 30%", "--ratio 0.3"),
        ("--size 0.3", "--ratio 0.3"),
        ("--size 1e1", "write --size 10"),
        ("--size 1,000", "write --size 1000"),
        ("--size 10k", "write --size 10000"),
        ("--size 9 -k 5.0", "write --n-neighbors 5"),
        ("--size 9 --recall 90%", "write --recall 0.9"),
        ("--size 9 --gamma-reverse 0,5", "write --gamma-reverse 0.5"),
        ("--size 9 --metric l2", "did you mean --metric euclidean?"),
        ("--size 9 --method ivf", "did you mean --method blocks?"),
        ("--size 9 --method faiss", "did you mean --method blocks?"),
        ("--size 9 --metric cosin", "did you mean --metric cosine?"),
        ("--size 9 --higher-is hard", "did you mean --higher-is harder?"),
        ("--size 9 --balance equal", "did you mean --balance uniform?"),
    ],
)
def test_a_value_that_cannot_be_used_gives_the_right_one(refused, args, says):
    assert says in refused(*BASE, *args.split())[1]


def test_messages_name_option_and_value(refused):
    error = refused(*BASE, "--size", "9", "--metric", "L3")[0]
    assert error == "--metric must be one of euclidean, cosine, not 'L3'"
    assert refused(*BASE, "--size", "x") == ("--size must be a whole number, not 'x'", "")
    error = refused(*BASE, "--size", "9", "--seed", "--threads", "2")[0]
    assert error == "--seed needs a value: --threads is the next option"


def test_choices_in_any_case(run_cli, data):
    assert run_cli(*BASE, "--size", 9, "--metric", "Cosine", "--out", "a.npy")[0] == 0


@given(st.decimals(0, 1, places=5).filter(lambda share: share > 0))
def test_percentages_mean_their_hundredth(share):
    percent = share * 100
    for text in (f"{percent}%", f"{percent} %", f"{percent}%".replace(".", ",")):
        with pytest.raises(UsageError) as caught:
            decimal_number(text, "--ratio")
        assert Decimal(caught.value.hint.removeprefix("write --ratio ")) == share


@given(st.text(max_size=8))
@example("1E100")
@example("9E99%")
@example("1/1E-99")
@example("-1E-99")
def test_numbers_are_read_or_refused(text):
    for read in (decimal_number, whole_number):
        try:
            assert isinstance(read(text, "--size"), int | float)
        except UsageError as error:
            assert "--size must be" in error.message


# -- words ----------------------------------------------------------------------------------------
SINGLE = [
    ("--seed 1 --seed 2", "--seed is given twice"),
    ("--seed 1 --seed 1 --seed 1", "--seed is given 3 times"),
    ("-k 3 --n-neighbors 4", "--n-neighbors is given twice"),
    ("--out a.npy --out b.npy", "--out is given twice"),
    ("--metric cosine --metric euclidean", "--metric is given twice"),
    ("--scores-key a --scores-key b", "--scores-key is given twice"),
]


@pytest.mark.parametrize(("args", "says"), SINGLE)
def test_a_single_option_that_is_given_twice_is_refused(refused, args, says):
    error, _ = refused(*BASE, "--ratio", "0.5", *args.split())
    assert error == f"{says}, and takes one value"


def test_options_that_may_repeat_and_flags_repeat(run_cli, data):
    args = ["--ratio", "0.5", "--ratio", "0.2", "--out", "o_{ratio}.npy", "-q", "-q", "--explain"]
    assert run_cli(*BASE, *args)[0] == 0
    assert run_cli(*BASE, *args, "--seed", 1, "--seed", 2, "--help")[0] == 0


def test_unquoted_globs_are_refused_with_a_hint(refused):
    error, hint = refused("select", "--emb", *"abcde", "--scores", "s.npy", "--ratio", "0.5")
    assert error == "unexpected b c d … (4 words): every file follows an option"
    assert "--emb 'shards/*.npy'" in hint
