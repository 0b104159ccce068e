"""The contract, as it stands in system.py: it accepts what it allows, and refuses what breaks a rule, by name.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

from hypothesis import HealthCheck, given, settings
from perron.check import judge, judge_row
from perron.derive.sampler import breaks, rows

from system import system

SCHEMA = system.schema
FIELDS = {field.name: field for field in SCHEMA.request}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@given(row=rows(SCHEMA))
@settings(deadline=None, max_examples=25, suppress_health_check=SLOW)
def test_a_row_that_the_contract_allows_is_accepted(row: dict[str, object]) -> None:
    assert not list(judge_row(FIELDS, None, row, 0))


def test_each_rule_refuses_what_breaks_it() -> None:
    for field, rule, value in breaks(SCHEMA.request):
        assert [fault.rule for fault in judge(field, value)] == [rule], f"{field.name} = {value!r}"


def test_what_is_predicted_is_not_asked_for() -> None:
    assert SCHEMA.target is not None
    assert SCHEMA.target.name not in FIELDS
    assert SCHEMA.features, "there is nothing to predict from"


def test_a_request_without_its_required_fields_is_refused_for_each_of_them() -> None:
    required = [field.name for field in SCHEMA.request if not field.optional]
    assert [fault.field for fault in judge_row(FIELDS, None, {}, 0)] == required
