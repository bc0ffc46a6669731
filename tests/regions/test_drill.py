"""``aragora-cp region drill`` on three regions with the real API and actors, and what it says of what it saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cluster.cli.exit_codes import REFUSED
from cluster.cli.region_drill import Drill, Leg
from tests.support.etcd import needs_etcd
from tests.support.probes import eventually
from tests.support.region_processes import NAMES, WHOLE, region_bench

SAME = {"count": 7, "digest": "5", "surplus": 0}


def a_drill() -> Drill:
    return Drill(
        region="east",
        to="west",
        legs=[Leg(to="west", handed_over_s=1.0, first_write_s=1.5, closed_s=2.0)],
        acknowledged=3,
        refused={"not_replicated": 2},
        compared=(4, 11),
        rows={"east": SAME, "west": SAME},
    )


def test_a_drill_in_which_all_is_as_it_should_be() -> None:
    drill = a_drill()
    assert drill.problems(2.0) == []
    text = drill.markdown("today", 2.0)
    assert "Nothing was lost." in text
    assert "| west | 1.0 s | 1.5 s | 2.0 s |" in text
    assert "3 probes acknowledged, 0 lost. Refusals meanwhile: 2 not_replicated." in text
    assert "Rows 5 to 11 of the log" in text
    assert "| east | 7 | 5 | 0 |" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lost": ["task_1"]}, "Probe task_1 was acknowledged and is not there."),
        ({"broken": "It broke off."}, "It broke off."),
        ({"new_surplus": 1}, "1 new files have surplus rows"),
        ({"rows": {"east": SAME, "west": SAME | {"digest": "6"}}}, "The log of west differs"),
        ({"rows": {"east": SAME, "west": SAME | {"count": 6}}}, "The log of west differs"),
        (
            {"rows": {"east": SAME, "west": {"problem": "link_lost"}}},
            "The log of west could not be compared (link_lost)",
        ),
        ({"legs": [Leg(to="west", handed_over_s=1.0, first_write_s=1.5, closed_s=2.1)]}, "closed for writes for 2.1 s"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(change: dict[str, object], problem: str) -> None:
    drill = replace(a_drill(), **change)  # type: ignore[arg-type]
    (found,) = drill.problems(2.0)
    assert problem in found
    assert found in drill.markdown("today", 2.0)
    assert "Failed." in drill.markdown("today", 2.0)


@needs_etcd
@pytest.mark.slow
@pytest.mark.longer
async def test_a_drill_goes_there_and_back_and_loses_nothing(tmp_path: Path) -> None:
    async with region_bench(WHOLE) as bench, httpx.AsyncClient(verify=False, timeout=60) as http:
        first = await bench.primary()
        here, other = bench.regions[first], bench.regions[next(name for name in NAMES if name != first)]
        url = other.url.removesuffix("/api/control-plane")  # the client's one address is another region's

        async def answers() -> bool:
            try:
                return (await http.get(other.url + "/health")).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(answers, 60.0, "the API answers")
        words = ("drill", "--to", other.name, "--report", str(tmp_path / "reports"))
        code, out = await here.command(*words, "--most-closed", "60", ARAGORA_API_URL=url)
        assert code == 0, out
        assert "Nothing was lost." in out
        (text,), (values,) = (list((tmp_path / "reports").glob(f"*.{kind}")) for kind in ("md", "json"))
        found = json.loads(values.read_text())
        assert [leg["to"] for leg in found["legs"]] == [other.name, first]
        assert (found["problems"], found["lost"], found["acknowledged"] > 2) == ([], [], True)
        assert found["rows"] == dict.fromkeys(NAMES, found["rows"][first])
        assert found["rows"][first]["count"] == found["compared"][1] - found["compared"][0] > 0
        assert text.read_text() in out
        assert await bench.primary() == first

        code, out = await here.command(*words, "--most-closed", "0.1", "--json", ARAGORA_API_URL=url)
        assert (code, "closed for writes" in json.loads(out)["problems"][0]) == (REFUSED, True)
        code, out = await other.command("drill", ARAGORA_API_URL=url)
        assert (code, "begin the drill there" in out) == (REFUSED, True)
