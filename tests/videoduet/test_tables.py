"""Tables and lists of every kind: what a line is, what a row is, and how a wrong one is named."""

import json

import pytest

from videoduet.errors import InputError
from videoduet.prompt_sets import read_prompts
from videoduet.store import read_json, write_json
from videoduet.tables import csv_lines, is_text, json_line, kind_of, read_lines, read_table

ODD = "a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg"
"""Characters at which Python's ``splitlines`` cuts, and nobody else."""


def rows_of(path, **options):
    return list(read_table(path, **options).rows())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.CSV", "csv"), ("a.Tsv", "tsv"), ("a.NDJSON", "json lines"), ("a.jsonl", "json lines"), ("a.JSON", "json"),
     ("a.TXT", "text"), ("a", "text"), ("a.parquet", "parquet"), ("a.xlsx", None), ("a.csv.gz", None)],
)  # fmt: skip
def test_the_suffix_says_the_kind_in_any_case(name, kind):
    assert kind_of(name) == kind


def test_a_line_ends_with_a_line_feed_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes(f"\ufeff{ODD}\r\nold\rmac\n\nlast".encode())
    assert read_lines(tmp_path / "a.txt") == [ODD, "old\rmac", "", "last"]
    (tmp_path / "a.txt").write_bytes(b"")
    assert read_lines(tmp_path / "a.txt") == []


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.TSV", "\t")])
def test_separated_values_keep_every_character(tmp_path, name, mark):
    text = f'n{mark}"two\nlines"\r\n1{mark}"{ODD}\r\n""x"""\r\n\r\n2{mark}{ODD}\n'
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert rows_of(tmp_path / name) == [
        {"n": "1", "two\nlines": f'{ODD}\r\n"x"'},
        {"n": "2", "two\nlines": ODD},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a,b\n1,2\n1,2,3\n", "row 2 has 3 fields, not 2: .*comma"), ("a,b\n1\n", "row 1 has 1 fields, not 2"),
     ('a,b\n1,"x"y\n', "row 1: "), ('a,b\n1,2\n1,"x\n', "row 2: "), ("", "is empty"), ('"a\n', "header")],
)  # fmt: skip
def test_a_wrong_row_is_named_by_its_number(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        rows_of(tmp_path / "a.csv")


def test_two_columns_of_one_name_are_told_apart_by_nobody(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,x, prompt,,\na,1,a,,\nb,2,c,,\n")
    rows = read_table(tmp_path / "a.csv").rows()
    assert next(rows) == {"prompt": "a", "x": "1", "": ""}
    with pytest.raises(ValueError, match="row 2 has two values of the column 'prompt'"):
        next(rows)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_text_of_another_encoding_is_named(tmp_path, name, encoding):
    (tmp_path / name).write_bytes('{"prompt": "a"}\n'.encode(encoding))
    with pytest.raises(InputError, match=rf"{name} (is not UTF-8 text|cannot be read)"):
        read_prompts(str(tmp_path / name))
    (tmp_path / "zeros.txt").write_text("a\x00bc\n\x00\n")
    assert read_lines(tmp_path / "zeros.txt") == ["a\x00bc", "\x00"]


def test_rows_may_end_early_where_that_is_allowed(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1\n")
    assert rows_of(tmp_path / "a.csv", short=True) == [{"a": "1"}]


@pytest.mark.parametrize(
    ("line", "says"), [("{", "line 3: "), ("[1]", "line 3 is no object"), ("\u2028", None), ("", None)]
)
def test_json_lines_are_counted(tmp_path, line, says):
    text = json.dumps({"a": ODD}, ensure_ascii=False) + "\n\n" + line + "\r\n" + '{"b": "2020-01-01"}'
    (tmp_path / "a.ndjson").write_bytes(b"\xef\xbb\xbf" + text.encode())
    if says is None:
        assert rows_of(tmp_path / "a.ndjson") == [{"a": ODD}, {"b": "2020-01-01"}]
        return
    with pytest.raises(ValueError, match=says):
        rows_of(tmp_path / "a.ndjson")


def test_what_is_written_has_one_line_a_row_for_everyone():
    row = {"prompt": ODD + "\r\n", "path": "caf\udce9.mp4"}
    line = json_line(row)
    assert len(line.splitlines()) == 1 and json.loads(line) == row and line.encode()
    header, text = csv_lines(["prompt", "n"], [{"prompt": "a\rb\udce9", "n": None}])
    assert (header, text) == ("prompt,n\n", '"a\rb\\udce9",\n')


def test_names_that_are_no_utf8_are_kept(tmp_path):
    assert is_text("café\u2028") and not is_text("caf\udce9")
    write_json(tmp_path / "a.json", {"path": "caf\udce9.mp4"})
    assert read_json(tmp_path / "a.json") == {"path": "caf\udce9.mp4"}


@pytest.mark.parametrize("name", ["a.CSV", "a.tsv", "a.NDJSON", "a.JSON"])
def test_prompts_of_every_kind_of_table(tmp_path, name):
    rows = [{"n": "1", "prompt": f"one {ODD}."}, {"n": "2", "prompt": "two"}]
    mark = "\t" if "tsv" in name else ","
    tables = {"csv": "".join(csv_lines(["n", "prompt"], rows)).replace(",", mark), "json": json.dumps(rows)}
    tables |= {"ndjson": "".join(map(json_line, rows)), "tsv": tables["csv"]}
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + tables[name[2:].lower()].encode())
    assert [prompt.text for prompt in read_prompts(tmp_path / name).prompts] == [row["prompt"] for row in rows]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("a.xlsx", "prompt\nx\n", "a.xlsx is .xlsx, which is not read here"), ("a.tab", "x", "is .tab"),
     ("a.csv", "prompt,n\na cat, running,1\n", "row 1 has 3 fields"),
     ("a.json", '[{"prompt": "x"}, {"prompt": 3}]', "holds int64 .row 2."),
     ("a.jsonl", '{"prompt": "\\ud83d"}\n', "row 1: prompt holds half a character"),
     ("a.tsv", "prompt\tx\n", "is empty"), ("a.json", "[" * 99999, "nested too deeply"),
     ("a.jsonl", "[" * 99999, "line 1: it is nested too deeply")],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        read_prompts(tmp_path / name)
