"""`testbed.contracts`: built-ins hold, and each way to break a contract is found by the question that is about it."""

import textwrap

import pytest

from testbed import contracts, plugins
from testbed.errors import UsageError

#: Kind -> {what is wrong: (source of a plug-in called `it`, a word of the question that must not hold)}.
BROKEN = {
    "attack": {
        "leaves the ball": ("return (x + 2 * eps).clamp(0, 1)", "ball"),
        "leaves the bounds": ("return x + eps", "ball"),
        "gives NaN": ("return x * float('nan')", "ball"),
        "gives another shape": ("return x[:, :, :-1]", "ball"),
        "gives float64": ("return x.double()", "ball"),
        "does nothing": ("return x", "changes"),
        "changes the weights": (
            "next(iter(model.module.parameters())).data.add_(1)\n    return (x + eps).clamp(0, 1)",
            "ball",
        ),
        "reads the clock": (
            "import time\n    return (x + eps * ((time.perf_counter_ns() % 97) / 97)).clamp(0, 1)",
            "same seed",
        ),
        "looks at the batch": ("return (x + eps * x.mean()).clamp(0, 1)", "cut or reordered"),
        "takes three channels for granted": (
            "x = x.clone()\n    x[:, 2] += eps\n    return x.clamp(0, 1)",
            "one channel",
        ),
        "raises": ("raise ValueError('no')", "ball"),
    },
    "shift": {
        "gives floats": ("return images / 255", "shape and type"),
        "gives another shape": ("return images[:, :-1]", "shape and type"),
        "does nothing": ("return images", "changes"),
        "draws from nowhere": (
            "import numpy as np\n    noise = np.random.default_rng().integers(1, 9, images.shape)\n"
            "    return (images + noise).astype(np.uint8)",
            "same seed",
        ),
        "looks at the batch": ("return images - images.min(axis=0, keepdims=True) // 2 - 1", "cut or reordered"),
    },
}
HEADS = {
    "attack": "def it(model, x, y, *, eps: float, rng):\n    ",
    "shift": "def it(images, *, severity: float = 3.0, rng):\n    ",
}

FIT = {
    "calibrator": """
        import numpy as np
        class it:
            def fit(self, logits, labels, *, features=None, unlabelled=None):
                {fit}
                return {returned}
            def probs(self, logits, *, features=None):
                e = np.exp(logits - logits.max(axis=1, keepdims=True))
                p = e / e.sum(axis=1, keepdims=True)
                {out}
            def state(self):
                return {state}
            def restore(self, state):
                return {restored}
            argmax_preserving = {promise}
    """,
    "detector": """
        import numpy as np
        class it:
            consumes = {promise}
            def fit(self, outputs):
                {fit}
                return {returned}
            def score(self, outputs):
                s = -np.asarray(outputs.logits, dtype=np.float64).max(axis=1)
                {out}
            def state(self):
                return {state}
            def restore(self, state):
                return {restored}
    """,
}
SOUND = {
    "calibrator": {
        "fit": "pass",
        "returned": "self",
        "out": "return p",
        "state": "{}",
        "restored": "it()",
        "promise": "True",
    },
    "detector": {
        "fit": "pass",
        "returned": "self",
        "out": "return s",
        "state": "{}",
        "restored": "it()",
        "promise": "('logits',)",
    },
}
FITTED = {
    "calibrator": {
        "rows do not sum to 1": ({"out": "return 2 * p"}, "distributions"),
        "float32": ({"out": "return p.astype(np.float32)"}, "distributions"),
        "negative": ({"out": "return p - np.arange(-1.5, 2) * 5"}, "distributions"),
        "fit returns nothing": ({"returned": "None"}, "distributions"),
        "writes into its input": ({"out": "logits[:] = 0\n        return p"}, "alone"),
        "looks at the batch": ({"out": "return (p + p.mean(axis=0)) / 2"}, "the others"),
        "state holds an object": ({"state": "{'a': object()}"}, "state()"),
        "state is lost": (
            {"fit": "self.a = 1", "out": "return p[:, ::-1] if not hasattr(self, 'a') else p"},
            "state()",
        ),
        "breaks its promise": ({"out": "return p[:, ::-1].copy()"}, "most likely class"),
    },
    "detector": {
        "float32": ({"out": "return s.astype(np.float32)"}, "finite"),
        "infinite": ({"out": "return s * np.inf"}, "finite"),
        "sign turned": ({"out": "return -s"}, "larger means more"),
        "reads what it does not declare": ({"out": "return outputs.features.sum(axis=1).astype(np.float64)"}, "finite"),
        "writes into its input": ({"out": "outputs.logits[0] = 0\n        return s"}, "alone"),
        "looks at the batch": ({"out": "return s - s.mean()"}, "the others"),
        "state is lost": ({"fit": "self.a = 1", "out": "return s + (0 if hasattr(self, 'a') else 1)"}, "state()"),
        "restore returns nothing": ({"restored": "None"}, "state()"),
    },
}
PLAIN = [(kind, what) for kind, cases in BROKEN.items() for what in cases]
CLASSES = [(kind, what) for kind, cases in FITTED.items() for what in cases]


def refused(kind, source, tmp_path):
    """The questions that do not hold for this source, with their details."""
    (tmp_path / "mine.py").write_text(source)
    return {f.question: f.detail for f in contracts.check(kind, "mine.py:it", base=tmp_path) if not f.holds}


@pytest.mark.parametrize(("kind", "what"), PLAIN)
def test_each_broken_function_is_found(kind, what, tmp_path) -> None:
    body, word = BROKEN[kind][what]
    found = refused(kind, HEADS[kind] + body + "\n", tmp_path)
    assert any(word in question for question in found), found
    assert all(found.values())


@pytest.mark.parametrize(("kind", "what"), CLASSES)
def test_each_broken_class_is_found(kind, what, tmp_path) -> None:
    change, word = FITTED[kind][what]
    found = refused(kind, textwrap.dedent(FIT[kind]).format(**(SOUND[kind] | change)), tmp_path)
    assert any(word in question for question in found), found
    assert all(found.values())


@pytest.mark.parametrize("kind", FIT)
def test_the_sound_class_holds(kind, tmp_path) -> None:
    assert refused(kind, textwrap.dedent(FIT[kind]).format(**SOUND[kind]), tmp_path) == {}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("attack", "pgd"), ("attack", "fgsm"), ("shift", "fog"), ("shift", "rotate"), ("calibrator", "temperature"),
     ("calibrator", "isotonic"), ("detector", "msp"), ("detector", "mahalanobis")],
)  # fmt: skip
def test_built_ins_hold(kind, name) -> None:
    assert [f for f in contracts.check(kind, name) if not f.holds] == []


@pytest.mark.parametrize("travels", [True, False])
def test_a_helper_travels_where_it_is_imported_by_name(travels, tmp_path, monkeypatch) -> None:
    (tmp_path / "helper_beside.py").write_text("AMOUNT = 0.05\n")
    monkeypatch.syspath_prepend(tmp_path)
    named = "import helper_beside\n"
    hidden = "import importlib\nhelper_beside = importlib.import_module('helper_' + 'beside')\n"
    body = HEADS["attack"] + "return (x + helper_beside.AMOUNT * eps).clamp(0, 1)\n"
    found = refused("attack", (named if travels else hidden) + body, tmp_path)
    question = "it travels: what the plan read of it loads in a fresh process in another folder"
    assert list(found) == ([] if travels else [question])
    assert all("helper_beside" in reason for reason in found.values())


def test_a_fact_that_the_plan_cannot_read_is_found(tmp_path) -> None:
    source = """
    class it:
        minimal = not False
        def __call__(self, model, x, y, *, rng):
            return (x + 0.05).clamp(0, 1)
    """
    found = refused("attack", textwrap.dedent(source), tmp_path)
    assert any("minimal" in detail for detail in found.values())


@pytest.mark.parametrize("kind", contracts.base.CHECKED)
def test_kind_of_installed_names(kind) -> None:
    others = {name for other in contracts.base.CHECKED if other != kind for name in plugins.names(other)}
    assert all(contracts.kind_of(name) == kind for name in plugins.names(kind) if name not in others)


def test_a_reference_that_could_be_anything_is_refused(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("def it(a, b):\n    return a\n")
    with pytest.raises(UsageError, match="--kind"):
        contracts.kind_of("mine.py:it", tmp_path)


def test_only_kinds_with_a_contract() -> None:
    with pytest.raises(UsageError, match="did you mean 'detector'"):
        contracts.check("detectr", "msp")


def test_an_entry_point_of_an_older_install_says_what_to_do(monkeypatch) -> None:
    from importlib.metadata import EntryPoint

    stale = EntryPoint("gone", "testbed_attacks.pgd:NoSuchClass", "testbed.attacks")
    monkeypatch.setattr(plugins, "installed", lambda kind: {"gone": stale})
    with pytest.raises(
        UsageError, match=r"names testbed_attacks\.pgd:NoSuchClass, which is not there; .*pip install -e"
    ):
        plugins.read("attack", "gone")
