"""Whatever a peer calls an object, its name leads nowhere else and is nobody else's."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from config.settings import Disk
from storage.associations import ProcessName, association_of
from storage.spool import Spool, safe_name

texts = st.text(max_size=80) | st.from_regex(r"[0-9.~/x]{0,70}", fullmatch=True)


@given(texts)
def test_a_name_is_one_plain_part_of_a_path(uid: str) -> None:
    name = safe_name(uid)
    assert name not in ("", ".", "..")
    assert not set(name) - set("0123456789.xabcdef")
    assert len(name.encode()) <= 65
    assert Path("folder", name).parent == Path("folder")


@given(texts, texts)
def test_two_uids_have_two_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(texts)
def test_a_study_folder_stays_in_the_spool(uid: str) -> None:
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder), Disk(free_mib_min=1, used_max=1.0))
        assert spool.study_folder(uid).resolve().parent.parent == spool.studies.resolve()


@given(
    st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{9,24}", fullmatch=True),
    st.integers(min_value=1, max_value=2**22),
    st.integers(min_value=1),
    st.integers(min_value=1),
)
def test_a_file_name_leads_back_to_association_and_process(host: str, boot: str, pid: int, n: int, m: int) -> None:
    process = ProcessName(host, boot, pid)
    association = association_of(f"{process}-{n}-{m}.dcm")
    assert association == f"{process}-{n}"
    assert ProcessName.parse(association.rsplit("-", 1)[0]) == process
