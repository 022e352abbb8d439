"""Which commit a revision of a hub data set or model is, and the data of a commit in the cache of `datasets`.

Both caches are those of the Hugging Face libraries, in their documented layout:
    HF_HUB_CACHE/{datasets,models}--ORG--NAME/refs/REVISION   holds the commit that a branch or tag had when last asked
    HF_DATASETS_CACHE/ORG___NAME/CONFIG/VERSION/COMMIT/       the data, as Arrow files
So what another program has downloaded is found, and what we download is found by it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from testbed.errors import EnvironmentProblem, UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(path: str, revision: str | None, kind: Literal["data set", "model"] = "data set") -> str:
    """The commit of a revision (default "main"): a commit itself, else what the hub says, else what the cache notes.

    Raises UsageError where the hub knows no such revision or repository, EnvironmentProblem where nobody can tell.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    revision = revision or "main"
    if _COMMIT.fullmatch(revision):
        return revision
    note, named = _note(path, revision, kind), f"{kind} {path!r}"
    try:
        ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
        found = str(ask(path, revision=revision, timeout=30).sha)
    except RevisionNotFoundError:
        raise UsageError(f"{named} has no revision {revision!r} on the hub") from None
    except GatedRepoError:
        raise EnvironmentProblem(f"{named} is gated: ask for access on the hub, then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UsageError(f"the hub has no {named}, or it is private and HF_TOKEN gives no access") from None
    except unreachable() as error:
        if note.is_file():
            return note.read_text().strip()
        raise EnvironmentProblem(
            f"{named}: the hub cannot be reached ({first_line(error)}) and the cache {_hub()} "
            f"does not know the revision {revision!r}; connect once, or set HF_HOME to a cache that holds it"
        ) from None
    _write(note, found)
    return found


def prepared(path: str, config: str | None, commit: str) -> Any | None:
    """A builder that reads the data of a commit from the cache; None where it is not there.

    Without a config only the one called "default" is taken: which other one the hub would choose is not in the cache.
    """
    from datasets.packaged_modules.cache.cache import Cache

    for folder in _folders(path, config or "default", commit):
        name, version = folder.parts[-3:-1]
        return Cache(dataset_name=path.split("/")[-1], repo_id=path, config_name=name, version=version, hash=commit)
    return None


def is_substitute(builder: Any, commit: str) -> bool:
    """Whether `datasets`, the hub being away, offers the newest data in its cache, of whatever commit and config."""
    from datasets.packaged_modules.cache.cache import Cache

    return isinstance(builder, Cache) or builder.hash != commit


def absent(path: str, commit: str) -> str:
    """In words, that the cache holds no data of a commit that would serve, and what it holds of it."""
    configs = sorted({folder.parts[-3] for folder in _folders(path, "*", commit)})
    held = f"; it holds the configs {', '.join(configs)}: say one with `config`" if configs else ""
    return (
        f"data set {path!r}: the hub cannot be reached and the cache {_data(path).parent} does not hold what is asked "
        f"of commit {commit}{held or '; connect once, or set HF_HOME to a cache that holds it'}"
    )


def unreachable() -> tuple[type[BaseException], ...]:
    """What the hub's client raises where a server is away: its transport has changed, HfHubHTTPError extends each."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _folders(path: str, config: str, commit: str) -> list[Path]:
    return sorted(folder for folder in _data(path).glob(f"{config}/*/{commit}") if folder.is_dir())


def _data(path: str) -> Path:
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    *space, name = path.split("/")
    return Path(config.HF_DATASETS_CACHE).expanduser() / "___".join([*space, camelcase_to_snakecase(name)])


def _hub() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _note(path: str, revision: str, kind: str) -> Path:
    return _hub() / f"{'models' if kind == 'model' else 'datasets'}--{path.replace('/', '--')}" / "refs" / revision


def _write(note: Path, commit: str) -> None:
    """Note the commit; other processes see the old one or the new one, never half of it."""
    if note.is_file() and note.read_text().strip() == commit:
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    fresh = note.with_name(f"{note.name}.{os.getpid()}")
    fresh.write_text(commit)
    fresh.replace(note)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class where it has none."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
