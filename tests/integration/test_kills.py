"""What a killed worker leaves: nothing that grows."""

from collections.abc import Callable
from pathlib import Path

from tests.integration.conftest import Study, send
from tests.running import RunningNode


def test_no_scratch_is_left_behind(node: RunningNode, ct_study: Callable[..., Study]) -> None:
    """Volumes are as large as a study; a worker that is killed leaves one, and the next removes it."""
    study = ct_study("scratch")
    send(study.files, node)
    node.until(lambda: _volumes(node), "a volume to be decoded")
    node.kill_role("worker")
    node.until_state(study.uid, "done")
    node.until(lambda: not _volumes(node), "the volumes to be removed")


def _volumes(node: RunningNode) -> list[Path]:
    return list((node.folder / "state/scratch").glob("*/volume.npy"))
