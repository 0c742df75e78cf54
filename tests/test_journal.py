import pytest

from audit import journal
from audit.errors import ConfigError


def test_what_is_appended_is_read_back_in_order(tmp_path):
    journal.append(tmp_path, "begin", time="now")
    journal.append(tmp_path, "finding", value=0.5, text='line\nbreak "quoted"')
    assert [event["event"] for event in journal.read(tmp_path)] == ["begin", "finding"]
    assert journal.read(tmp_path)[1]["text"] == 'line\nbreak "quoted"'


@pytest.mark.parametrize("torn", [b'{"event": "find', b"{", b'{"event": "start"}'])
def test_a_line_torn_by_a_kill_is_left_out_and_cut_off(tmp_path, torn):
    journal.append(tmp_path, "begin")
    with (tmp_path / journal.NAME).open("ab") as file:
        file.write(torn)
    assert [event["event"] for event in journal.read(tmp_path)] == ["begin"]
    journal.mend(tmp_path)
    journal.append(tmp_path, "resume")
    assert [event["event"] for event in journal.read(tmp_path)] == ["begin", "resume"]


@pytest.mark.parametrize("line", [b"not json", b"[" * 100_000], ids=["no JSON", "nested without end"])
def test_damage_before_the_last_line_is_told(tmp_path, line):
    journal.append(tmp_path, "begin")
    with (tmp_path / journal.NAME).open("ab") as file:
        file.write(line + b"\n")
    journal.append(tmp_path, "end")
    with pytest.raises(ConfigError, match="damaged in line 2"):
        journal.read(tmp_path)


def test_no_journal_is_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no run to go on with"):
        journal.read(tmp_path)
