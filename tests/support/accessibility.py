"""What axe finds on a page that is open in a browser."""

from pathlib import Path

from chromium import Browser

AXE = Path(__file__).resolve().parent / "axe" / "axe.min.js"
_VIOLATIONS = """
    const found = await axe.run();
    return found.violations
        .filter((each) => ["serious", "critical"].includes(each.impact))
        .map((each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
"""


def violations(browser: Browser) -> list[str]:
    """What axe calls serious or critical, on the page as it is now."""
    browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
    found: list[str] = browser.run(_VIOLATIONS)
    return found
