"""Publish a folder on the Hugging Face hub: private unless somebody asks for more, and nothing before it can work.

What goes up is what :func:`operations` lists; a test holds it to that. Texts in it call the folder ``this/directory``,
which becomes the name that it has there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from videoduet.errors import InputError
from videoduet.loading import loading, reason

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

Kind = Literal["model", "dataset"]
"""The kinds of repositories that are published."""
THIS = "this/directory"
"""How cards call the folder in which they lie."""
SIGN_IN = "run hf auth login, or set HF_TOKEN to a token that may write."


def check_name(repository: str) -> None:
    """Raises InputError where ``repository`` is no OWNER/NAME that the hub could have."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r} cannot be a repository's name ({reason(error)}).", exit_code=2) from error
    if repository.count("/") != 1:
        raise InputError(f"{repository!r} names no owner; give OWNER/NAME, as the hub shows it.", exit_code=2)


def check(repository: str) -> str:
    """Who is signed in on the hub. Raises InputError where nothing could be published under ``repository`` (the name,
    the token, the network), so that it is known before hours of work.
    """
    from huggingface_hub import HfApi, get_token

    check_name(repository)
    if get_token() is None:
        raise InputError(f"There is no token of the hub to publish {repository} with; {SIGN_IN}")
    with loading("The hub does not know who publishes", f"look at the network, then {SIGN_IN}"):
        # huggingface_hub leaves the answer's type open.
        told = cast("dict[str, Any]", HfApi().whoami())  # pyright: ignore[reportUnknownMemberType]
        return str(told["name"])


def operations(folder: Path, name: str, changed: Mapping[str, bytes] | None = None) -> "list[CommitOperationAdd]":
    """What is sent of ``folder`` to the repository ``name``: every file but hidden ones, in order of their paths, with
    the contents in ``changed`` (by path) in place of the files', and the card calling itself ``name``.
    """
    from huggingface_hub import CommitOperationAdd

    files = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
    shown = {path: file for path, file in files.items() if not any(part.startswith(".") for part in path.parts)}
    found: dict[str, bytes | Path] = {path.as_posix(): file for path, file in shown.items()}
    found |= changed or {}
    if card := found.get("README.md"):
        text = card if isinstance(card, bytes) else card.read_bytes()
        found["README.md"] = text.replace(THIS.encode(), name.encode())
    return [CommitOperationAdd(path_in_repo=path, path_or_fileobj=found[path]) for path in sorted(found)]


def publish(
    folder: str | Path,
    repository: str,
    *,
    kind: Kind = "model",
    public: bool = False,
    changed: Mapping[str, bytes] | None = None,
) -> str:
    """The address at which ``folder`` is now published: a new repository, private unless ``public``, or one more commit
    to one that is there, whose visibility stays.

    Raises InputError, one sentence, without a token or network, or where the hub refuses.
    """
    from huggingface_hub import HfApi

    check(repository)
    api, folder = HfApi(), Path(folder)
    again = f"python -m pipelines.push_to_hub --folder {folder} --repository {repository}"
    with loading(f"{repository} was not published", f"nothing is lost, give it again: {again}"):
        made = api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        api.create_commit(
            made.repo_id, operations(folder, made.repo_id, changed), commit_message="Published by VideoDuet",
            repo_type=kind,
        )  # fmt: skip
    return str(made.url)
