"""A real browser, Debian's Chromium, and what it is asked and asks for."""

import contextlib
import json
import shutil
from importlib.resources import files

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
LOGS = ("browser", "performance")


@contextlib.contextmanager
def started(profile):
    """Yield a browser with a folder of its own."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail("install Debian's chromium and chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(LOGS, "ALL"))
    made = webdriver.Chrome(options=options, service=Service(driver))
    made.set_script_timeout(300)
    # a page of a thousand formulas takes axe-core a minute of a busy machine
    made.command_executor.client_config.timeout = 320
    try:
        yield made
    finally:
        made.quit()


def width(browser, pixels, mobile):
    """Set the size of the screen."""
    size = {"width": pixels, "height": 780, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requested(browser):
    """Return the addresses that were asked for since the last time."""
    events = [json.loads(x["message"])["message"] for x in browser.get_log(LOGS[1])]
    sent = [x for x in events if x["method"] == "Network.requestWillBeSent"]
    return [x["params"]["request"]["url"].split("#")[0] for x in sent]


def audited(browser):
    """Return what axe-core says of a page: `violations`, and the rules it `passes`."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    browser.execute_script(axe)
    run = "const done = arguments[0]; axe.run().then(done, x => done(String(x)))"
    return browser.execute_async_script(run)


def inaccessible(browser):
    """Return what axe-core calls a serious or critical fault, and where."""
    return [
        (x["id"], x["help"], [y["html"] for y in x["nodes"]][:3])
        for x in audited(browser)["violations"]
        if x["impact"] in ("serious", "critical")
    ]
