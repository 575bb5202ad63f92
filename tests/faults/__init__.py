"""What goes wrong in production, done on purpose; docs/reliability.md is written from what these tests measure.

    @pytest.mark.fault("dbt is killed", "while it writes a fact")
    def test_killed_dbt_leaves_every_reader_with_the_release_before(make_flow, outcome):
        flow = make_flow(…)
        with Readers(flow) as readers:
            killed(flow, partial(Flow.dbt, …), Before("insert into"))
            …                                                   # what brings it back
        outcome.record(compare(flow, clean), readers.seen, message=…, mended_by="…")

* `matrix`: a test's row, and the document of all rows (`make reliability`).
* `children`: a step of a flow in a process of its own, stopped, killed or held at a stated point.
* `watch`: readers of PostgreSQL and of the lake, all the time.
* `judge`: rows lost and doubled against a clean run, and what was left over.
"""
