"""What an operator reads of an engine's error."""

from include.errors import first_line, without_statements

LOST = "server closed the connection unexpectedly"
INSERT = 'insert into ledger.releases (release_id, marts) values (7, \'{"key":["site"],"rows":8}\')' + "x" * 900


def test_a_long_statement_is_cut_and_what_follows_is_kept() -> None:
    said = first_line(RuntimeError(f'Failed to execute query "{INSERT}": {LOST}\n\tThis probably means'))
    assert said == f'Failed to execute query "{INSERT[:60]}…": {LOST}'


def test_a_statement_of_several_lines_is_cut_as_well() -> None:
    copy = 'COPY (SELECT "data_file_id"\nFROM "ducklake"."ducklake_data_file"\nWHERE "table_id" = 5) TO STDOUT'
    said = first_line(RuntimeError(f'Failed to prepare COPY "{copy}": {LOST}'))
    assert said == f'Failed to prepare COPY "{" ".join(copy.split())[:60]}…": {LOST}'
    assert without_statements(f'Failed to execute query "\n select 1\n": {LOST}\n\tThis') == (
        f'Failed to execute query "select 1": {LOST}\n\tThis'
    )


def test_short_statements_and_other_messages_stay_as_they_are() -> None:
    for text in (f'Failed to execute query "COMMIT": {LOST}', "the table is gone", 'Failed to execute query "x"'):
        assert first_line(RuntimeError(text)) == text
    assert first_line(KeyError()) == "KeyError"
