"""Networks of RobustBench by their identifiers, through its own package (an extra), which fetches their weights."""


def robustbench(spec, *, identifier: str, threat: str = "Linf"):
    """The network `identifier` of RobustBench's CIFAR-10 list, on images in [0, 1]."""
    from robustbench.utils import load_model

    return load_model(model_name=identifier, dataset="cifar10", threat_model=threat)
