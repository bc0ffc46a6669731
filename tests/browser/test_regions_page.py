"""The page of regions on three of them, before and after the primary is lost."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Watched
from tests.support.api import CP
from tests.support.etcd import needs_etcd
from tests.support.region_processes import NAMES, WHOLE, RegionOnMachine, region_bench

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.longer]


async def test_regions_are_shown_before_and_after_a_loss(tab: Page) -> None:
    async with region_bench(WHOLE) as bench:
        first = await bench.primary()
        viewer = _of(tab, bench.regions[first])
        await viewer.open("/regions")
        rows = tab.get_by_role("region", name="Members").locator("tbody tr")
        await expect(rows).to_have_count(3)
        await expect(tab.get_by_text("primary", exact=True).first).to_be_visible()
        await expect(tab.get_by_text("in sync", exact=True)).to_have_count(3)
        await tab.get_by_text("More", exact=True).or_(tab.get_by_text("Regions", exact=True)).first.click()
        await expect(tab.get_by_role("link", name="Regions")).to_be_visible()
        await viewer.check("regions")
        other = next(name for name in NAMES if name != first)
        second = _of(tab, bench.regions[other])
        await second.open("/regions")
        await expect(rows.filter(has_text="(here)")).to_contain_text("heard of the primary")
        await second.check_fits("regions-secondary")
        bench.regions[first].kill()
        await expect(rows.filter(has_text=first)).to_contain_text("not in sync")
        await expect(tab.locator("dl.facts").first).not_to_contain_text(f"Primary{first}")


def _of(tab: Page, region: RegionOnMachine) -> Watched:
    return Watched(tab, region.url.removesuffix(CP))
