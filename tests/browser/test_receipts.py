"""A receipt is verified in the browser, with the network cut, and a changed byte is shown where it is."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.conftest import Viewer
from tests.support.models import models, register, vote
from tests.support.probes import eventually


async def test_a_receipt_is_verified_without_the_network(viewer: Viewer) -> None:
    api, tab = viewer.api, viewer.tab
    async with models(lambda model, _: vote("ship" if model != "c" else "wait", f"{model} thinks so")) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        config = {"options": ["ship", "wait"], "rounds": 0, "min_agents": 2}
        body = {"content": "Shall we ship today?", "async": True, "config": config}
        request_id = (await api.post("/deliberations", body))["request_id"]

        async def has_ended() -> bool:
            return (await api.get(f"/deliberations/{request_id}"))["completed_at"] is not None

        await eventually(has_ended)
    content = (await api.call("GET", f"/deliberations/{request_id}/receipt")).content
    await viewer.open(f"/deliberations/{request_id}")
    await tab.get_by_role("link", name="Verify its receipt").click()
    await expect(tab.get_by_text("It is what was signed.")).to_be_visible()
    checks = tab.locator(".checks li")
    await expect(checks).to_have_count(10)
    await expect(checks.filter(has_text="recomputed")).to_contain_text("equal")
    await expect(checks.filter(has_text="signature")).to_contain_text("passed")
    await expect(checks.filter(has_text="key")).to_contain_text("passed")
    await viewer.check("receipt")

    await tab.context.set_offline(True)
    asked = len(_calls(viewer))
    choose = tab.get_by_label("A receipt's file")
    await choose.set_input_files({"name": "kept.json", "mimeType": "application/json", "buffer": content})
    await expect(tab.get_by_role("heading", name="kept.json")).to_be_visible()
    await expect(tab.get_by_text("It is what was signed.")).to_be_visible()
    at = content.index(b'"b thinks so"')
    changed = content[: at + 10] + b"n" + content[at + 11 :]
    await choose.set_input_files({"name": "changed.json", "mimeType": "application/json", "buffer": changed})
    await expect(tab.get_by_text("Do not trust it: 2 checks of 9 failed.")).to_be_visible()
    await expect(checks.filter(has_text="tree")).to_contain_text("an event is not what it was")
    row = tab.get_by_role("region", name="Differences").locator("tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text(f"line 1, column {len(content[:at].decode()) + 1}, character 10")
    await expect(row).to_contain_text("b thinks no")
    await expect(row).to_contain_text("b thinks so")
    await viewer.check("receipt-changed")
    await choose.set_input_files({"name": "cut.json", "mimeType": "application/json", "buffer": content[:-9]})
    await expect(checks.filter(has_text="line 1, column")).to_have_count(1)
    # A key of somebody else: what was signed is whole, but by nobody who is trusted.
    await tab.get_by_role("button", name="Back to the control plane's copy").click()
    await tab.get_by_label("Public keys that you trust").fill("ab" * 32)
    await expect(checks.filter(has_text="is not among the trusted ones")).to_be_visible()
    await expect(tab.get_by_text("by a key that you do not trust")).to_be_visible()
    await expect(tab.get_by_role("heading", name="Where it was changed")).to_have_count(0)
    assert len(_calls(viewer)) == asked
    await tab.context.set_offline(False)


def _calls(viewer: Viewer) -> list[str]:
    """What was asked of the server, but for the stream, which goes on trying."""
    return [url for url in viewer.asked if "/stream" not in url]
